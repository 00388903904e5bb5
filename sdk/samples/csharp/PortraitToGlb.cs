// A portrait becomes a GLB file, with previews on the way; Ctrl-C cancels.
//
//   mcs -unsafe *.cs -out:PortraitToGlb.exe          (or the C# compiler of .NET)
//   mono PortraitToGlb.exe MODEL.topos PORTRAIT HEAD.glb [ONNXRUNTIME [SEED]]
//
// PORTRAIT is a PNG or JPEG file where the library was built with their decoders, or a binary PPM. The system
// has to find topos_rt: beside the program on Windows, through LD_LIBRARY_PATH on Linux.
using System;
using System.IO;
using System.Text;
using System.Threading;
using Topos;
using Topos.Native;

static class PortraitToGlb
{
    const string Usage = "usage: PortraitToGlb MODEL.topos PORTRAIT HEAD.glb [ONNXRUNTIME [SEED]]";
    static volatile bool interrupted;

    static int Main(string[] words)
    {
        if (words.Length < 3 || words.Length > 5)
        {
            Console.Error.WriteLine(Usage);
            return 2;
        }
        Console.CancelKeyPress += (sender, told) => { told.Cancel = true; interrupted = true; };
        try
        {
            Picture picture = Read(words[1]);
            ulong seed = words.Length > 4 ? ulong.Parse(words[4]) : 0;
            using (var runtime = new ToposRuntime(words.Length > 3 ? words[3] : null))
            using (var model = new ToposModel(runtime, words[0]))
            using (ToposJob job = model.Submit(picture, seed, previewEvery: 4, texture: TextureKind.Auto))
            using (ToposHead head = WaitFor(job))
            {
                Save(head, words[2]);
            }
            Console.WriteLine(words[2]);
            return 0;
        }
        catch (Exception failure) when (failure is ToposException || failure is IOException
            || failure is UnauthorizedAccessException || failure is FormatException
            || failure is OverflowException || failure is DllNotFoundException)
        {
            Console.Error.WriteLine("error: " + failure.Message);
            return 1;
        }
    }

    // A game polls once a frame instead of waiting.
    static ToposHead WaitFor(ToposJob job)
    {
        bool done;
        do
        {
            done = job.Wait(50);
            if (interrupted) job.Cancel();
            uint step;
            using (ToposHead preview = job.TakePreview(out step))
            {
                if (preview == null) continue;
                Console.WriteLine("after step {0}: {1:F0} mm tall", step, 1000 * Tall(preview.Info));
            }
        }
        while (!done);
        return job.TakeHead();
    }

    static unsafe float Tall(HeadInfo info) { return info.BoundsMax[1] - info.BoundsMin[1]; }

    // Returns the pixels of a PPM, and the bytes of any other file as they are.
    static Picture Read(string path)
    {
        byte[] data = File.ReadAllBytes(path);
        if (data.Length < 2 || data[0] != 'P' || data[1] != '6') return new Picture { Data = data };
        string[] numbers = new string[3];
        int at = 2;
        for (int k = 0; k < 3; ++k) // width, height and the largest value, apart by white space
        {
            var digits = new StringBuilder();
            while (at < data.Length && char.IsWhiteSpace((char)data[at])) ++at;
            while (at < data.Length && char.IsDigit((char)data[at]) && digits.Length < 6)
            {
                digits.Append((char)data[at++]);
            }
            numbers[k] = digits.ToString();
        }
        var picture = new Picture { Format = PixelFormat.Rgb8, Data = data, Offset = at + 1 };
        uint.TryParse(numbers[0], out picture.Width);
        uint.TryParse(numbers[1], out picture.Height);
        if (numbers[2] != "255" || data.Length - picture.Offset < 3L * picture.Width * picture.Height)
        {
            throw new IOException(path + " is a damaged PPM");
        }
        return picture;
    }

    // Writes beside the place, then renames: no half file is ever seen.
    static void Save(ToposHead head, string path)
    {
        string beside = path + ".part";
        try
        {
            using (FileStream file = File.Create(beside)) head.WriteGlb(file);
            if (File.Exists(path)) File.Replace(beside, path, null);
            else File.Move(beside, path);
        }
        finally
        {
            File.Delete(beside);
        }
    }
}
