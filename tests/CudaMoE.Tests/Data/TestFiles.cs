using System.IO.Compression;
using System.Text;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Data;

/// <summary>Writes small data files.</summary>
internal static class TestFiles
{
    public static string Write(this TemporaryFolder folder, string name, string text) => folder.Write(name, Encoding.UTF8.GetBytes(text));

    public static string Write(this TemporaryFolder folder, string name, byte[] bytes)
    {
        File.WriteAllBytes(folder[name], bytes);
        return folder[name];
    }

    public static byte[] Gzip(string text)
    {
        using MemoryStream target = new();
        using (GZipStream gzip = new(target, CompressionLevel.Fastest))
            gzip.Write(Encoding.UTF8.GetBytes(text));
        return target.ToArray();
    }
}
