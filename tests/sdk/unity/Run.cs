// Runs the sample scene as Unity would, frame after frame, and writes the mesh that it has made.
//   Run.exe PACK PPM OUT
using System;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Threading;
using Topos.Unity;
using UnityEngine;

static class Run
{
    static int Main(string[] words)
    {
        var scene = new GameObject("scene").AddComponent<PortraitScene>();
        scene.Portrait = Picture(words[1]);
        Call(scene, "Start");
        var head = (PortraitHead)Field(scene, "head");
        head.Pack = words[0];
        head.Seed = 3;
        int finished = 0;
        head.Finished += _ => ++finished;
        Call(head, "Start");
        for (int frame = 0; !head.Done && head.Failure == null && frame < 60000; ++frame)
        {
            Call(head, "Update");
            Call(scene, "Update");
            Thread.Sleep(1);
        }
        if (!head.Done || finished != 1) return 1;
        Call(scene, "Update");
        Write(head.GetComponent<SkinnedMeshRenderer>(), words[2]);
        // A second picture: the first one's blendshapes go, and a head on its way is cancelled.
        head.Make(scene.Portrait);
        Call(head, "Update");
        Mesh mesh = head.GetComponent<SkinnedMeshRenderer>().sharedMesh;
        Console.WriteLine("again: {0} shapes", mesh.Shapes.Count);
        Call(head, "OnDestroy");
        Console.WriteLine("failed " + Fail(scene.Portrait));
        Console.WriteLine("destroyed {0}", UnityEngine.Object.Destroyed);
        return 0;
    }

    // A pack that is none fails, and is tried again with the next portrait.
    static string Fail(Texture2D portrait)
    {
        var head = new GameObject("failing").AddComponent<PortraitHead>();
        head.Pack = "none.topos";
        for (int attempt = 0; attempt < 2; ++attempt)
        {
            head.Make(portrait);
            if (head.Failure != null) return "too early";
            for (int frame = 0; head.Failure == null && frame < 60000; ++frame)
            {
                Call(head, "Update");
                Thread.Sleep(1);
            }
        }
        Call(head, "OnDestroy");
        return head.Failure;
    }

    static void Write(SkinnedMeshRenderer renderer, string path)
    {
        Mesh mesh = renderer.sharedMesh;
        int open = mesh.GetBlendShapeIndex("jawOpen");
        Console.WriteLine("shown {0} times, jawOpen {1}", mesh.Changes - 1, renderer.Weights[open]);
        Console.WriteLine("shapes " + string.Join(" ", mesh.Shapes.Select(each => each.Name)));
        Console.WriteLine("joints " + string.Join(" ", renderer.bones.Select(each => each.gameObject.name)));
        var skin = (Texture2D)renderer.sharedMaterial.mainTexture;
        var relief = (Texture2D)renderer.sharedMaterial.Textures["_BumpMap"];
        File.WriteAllBytes(path + ".skin", skin.Data);
        Console.WriteLine("skin {0} {1} {2} {3}", skin.width, skin.Linear, relief.Linear, relief.Applied);
        using (var file = new BinaryWriter(File.Create(path)))
        {
            foreach (int count in new[] { mesh.Vertices.Length, mesh.Triangles.Length, mesh.Shapes.Count,
                renderer.bones.Length }) file.Write(count);
            foreach (Vector3[] part in new[] { mesh.Vertices, mesh.Normals }) Put(file, part);
            foreach (Vector2 uv in mesh.Uvs) { file.Write(uv.x); file.Write(uv.y); }
            foreach (int vertex in mesh.Triangles) file.Write(vertex);
            foreach (Mesh.Shape shape in mesh.Shapes) { Put(file, shape.Offsets); Put(file, shape.Turns); }
            Put(file, mesh.bindposes.Select(each => new Vector3(each.m03, each.m13, each.m23)).ToArray());
            Put(file, renderer.bones.Select(Place).ToArray());
            foreach (BoneWeight each in mesh.boneWeights)
            {
                file.Write((float)each.boneIndex0);
                file.Write(each.weight0 + each.weight1 + each.weight2 + each.weight3);
            }
            foreach (Vector4 each in mesh.Tangents)
            {
                foreach (float value in new[] { each.x, each.y, each.z, each.w }) file.Write(value);
            }
        }
    }

    static Vector3 Place(Transform joint)
    {
        return joint.parent == null ? new Vector3() : joint.localPosition + Place(joint.parent);
    }

    static void Put(BinaryWriter file, Vector3[] values)
    {
        foreach (Vector3 value in values) { file.Write(value.x); file.Write(value.y); file.Write(value.z); }
    }

    // A PPM with a head of three words, as the test writes it.
    static Texture2D Picture(string path)
    {
        byte[] data = File.ReadAllBytes(path);
        int start = 0;
        string[] words = new string[4];
        for (int k = 0; k < 4; ++k)
        {
            int end = Array.FindIndex(data, start, value => value <= 32);
            words[k] = System.Text.Encoding.ASCII.GetString(data, start, end - start);
            start = end + 1;
        }
        int width = int.Parse(words[1]), height = int.Parse(words[2]);
        var made = new Texture2D(width, height) { Pixels = new Color32[width * height] };
        for (int y = 0; y < height; ++y)
        {
            for (int x = 0; x < width; ++x)
            {
                int from = start + 3 * (y * width + x);
                made.Pixels[(height - 1 - y) * width + x] =
                    new Color32 { r = data[from], g = data[from + 1], b = data[from + 2], a = 255 };
            }
        }
        return made;
    }

    const BindingFlags Hidden = BindingFlags.Instance | BindingFlags.NonPublic;

    static void Call(object of, string name) { of.GetType().GetMethod(name, Hidden).Invoke(of, null); }
    static object Field(object of, string name) { return of.GetType().GetField(name, Hidden).GetValue(of); }
}
