// Tells what ToposRtNative.cs and ToposRtFunctions.cs declare, a line each:
//   struct NAME SIZE, then FIELD OFFSET pairs; enum NAME, then MEMBER VALUE pairs; function NAME, then the
//   bytes of what it returns (0: nothing) and of each argument.
using System;
using System.Linq;
using System.Reflection;
using System.Runtime.InteropServices;
using Topos.Native;

static class Layouts
{
    static void Main()
    {
        var types = typeof(Functions).Assembly.GetTypes();
        foreach (Type type in types.Where(type => type.Namespace == "Topos.Native"))
        {
            if (type.IsEnum)
            {
                var values = type.GetEnumNames()
                    .Select(name => name + " " + Convert.ToInt64(Enum.Parse(type, name)));
                Console.WriteLine("enum {0} {1}", type.Name, string.Join(" ", values));
            }
            else if (type.IsValueType && !type.IsNested)
            {
                var fields = type.GetFields(BindingFlags.Instance | BindingFlags.Public)
                    .Select(field => field.Name + " " + Marshal.OffsetOf(type, field.Name));
                string joined = string.Join(" ", fields);
                Console.WriteLine("struct {0} {1} {2}", type.Name, Marshal.SizeOf(type), joined);
            }
        }
        foreach (MethodInfo method in typeof(Functions).GetMethods(BindingFlags.Static | BindingFlags.Public))
        {
            var sizes = method.GetParameters().Select(each => Bytes(each.ParameterType).ToString());
            string joined = string.Join(" ", sizes);
            Console.WriteLine("function {0} {1} {2}", method.Name, Bytes(method.ReturnType), joined);
        }
    }

    static int Bytes(Type type)
    {
        if (type == typeof(void)) return 0;
        if (type.IsEnum) return Marshal.SizeOf(Enum.GetUnderlyingType(type));
        return type.IsPrimitive && type != typeof(IntPtr) ? Marshal.SizeOf(type) : IntPtr.Size;
    }
}
