using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using CudaMoE.Checkpoints;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Checkpoints;

public sealed class SafetensorsTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Save_AllTypes_ReadBackBitForBit()
    {
        SafetensorsWriter writer = new();
        Dictionary<string, byte[]> expected = [];
        Random random = new(7);
        foreach (TensorDataType type in Enum.GetValues<TensorDataType>())
        {
            byte[] bytes = new byte[3 * 5 * type.Size()];
            random.NextBytes(bytes);
            expected.Add($"tensor.{type}", bytes);
            writer.Add($"tensor.{type}", type, [3, 5], (offset, destination) => bytes.AsSpan((int)offset, destination.Length).CopyTo(destination));
        }

        writer.AddMetadata("producer", "a \"test\" with ünïcode \u0001");
        FileDigest digest = writer.Save(_folder["all.safetensors"]);

        Assert.Equal(digest, FileDigest.Of(_folder["all.safetensors"]));
        using SafetensorsReader reader = SafetensorsReader.Open(_folder["all.safetensors"]);
        Assert.Equal(expected.Count, reader.Header.Tensors.Count);
        Assert.Equal(0, reader.Header.DataStart % 64);
        Assert.Equal("a \"test\" with ünïcode \u0001", reader.Header.Metadata["producer"]);
        foreach ((string name, byte[] bytes) in expected)
        {
            TensorEntry entry = reader.Header[name];
            Assert.Equal([3L, 5L], entry.Shape);
            Assert.Equal(0, entry.Offset % entry.Type.Size());
            Assert.Equal(bytes, reader.Bytes(name).ToArray());
        }
    }

    [Fact]
    public void Elements_TypedMemory_RoundTrips()
    {
        SafetensorsWriter writer = new();
        writer.Add("f", TensorDataType.F32, [2, 2], new float[] { 1, float.NaN, float.NegativeInfinity, -0f });
        writer.Add("b", TensorDataType.BF16, [2], new ushort[] { 0x3F80, 0xC000 });
        writer.Add("h", TensorDataType.F16, [2], new Half[] { (Half)1.5f, Half.MaxValue });
        writer.Add("d", TensorDataType.F64, [1], new[] { 0.1 });
        writer.Add("i", TensorDataType.I64, [], new[] { long.MinValue });
        writer.Save(_folder["typed"]);

        using SafetensorsReader reader = SafetensorsReader.Open(_folder["typed"]);
        Assert.Equal(BitConverter.SingleToInt32Bits(-0f), BitConverter.SingleToInt32Bits(reader.Elements<float>("f")[3]));
        Assert.True(float.IsNaN(reader.Elements<float>("f")[1]));
        Assert.Equal(long.MinValue, reader.Elements<long>("i")[0]);
        Assert.Empty(reader.Header["i"].Shape);
        float[] singles = new float[2];
        reader.ReadSingles("b", singles);
        Assert.Equal([1f, -2f], singles);
        reader.ReadSingles("h", singles);
        Assert.Equal([1.5f, 65504f], singles);
        float[] one = new float[1];
        reader.ReadSingles("d", one);
        Assert.Equal(0.1f, one[0]);
        Assert.Contains("\"i\" is I64", Assert.Throws<CheckpointFormatException>(() => reader.ReadSingles("i", one)).Message, StringComparison.Ordinal);
        Assert.Contains("not read as Int32", Assert.Throws<CheckpointFormatException>(() => reader.Elements<int>("f").Length).Message, StringComparison.Ordinal);
        Assert.Contains("4 elements; 2 were expected", Assert.Throws<CheckpointFormatException>(() => reader.CopyTo("f", singles.AsSpan())).Message, StringComparison.Ordinal);
        Assert.Contains("no tensor \"x\"", Assert.Throws<CheckpointFormatException>(() => reader.Bytes("x").Length).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => reader.CopyTo("f", 1, new byte[16]));
    }

    [Fact]
    public void Save_EmptyTensorsScalarsAndBigNames_RoundTrip()
    {
        string big = new('ä', 100_000);
        SafetensorsWriter writer = new();
        writer.Add("empty.1", TensorDataType.F32, [0], ReadOnlyMemory<float>.Empty);
        writer.Add("empty.2", TensorDataType.U8, [1L << 40, 0], ReadOnlyMemory<byte>.Empty);
        writer.Add("", TensorDataType.F32, [], new[] { 3f });
        writer.Add(big, TensorDataType.I8, [1, 1], new sbyte[] { -1 });
        writer.Save(_folder["odd"]);

        using SafetensorsReader reader = SafetensorsReader.Open(_folder["odd"]);
        Assert.Equal(0, reader.Bytes("empty.1").Length);
        Assert.Equal([1L << 40, 0L], reader.Header["empty.2"].Shape);
        Assert.Equal(3f, reader.Elements<float>("")[0]);
        Assert.Equal(-1, reader.Elements<sbyte>(big)[0]);
    }

    [Fact]
    public void Save_NoTensors_IsAValidFile()
    {
        new SafetensorsWriter().Save(_folder["none"]);
        using SafetensorsReader reader = SafetensorsReader.Open(_folder["none"]);
        Assert.Empty(reader.Header.Tensors);
        Assert.Empty(reader.Header.Metadata);
    }

    [Fact]
    public void Save_SameTensorsInAnyOrder_GiveTheSameBytes()
    {
        string[] names = ["b", "a", "expert.10", "expert.2", "Z"];
        byte[][] files = new byte[2][];
        for (int run = 0; run < 2; run++)
        {
            SafetensorsWriter writer = new();
            foreach (string name in run == 0 ? names : names.Reverse())
                writer.Add(name, name == "a" ? TensorDataType.BF16 : TensorDataType.F32, [1], (_, destination) => destination.Fill((byte)name[0]));
            string[] keys = ["k1", "k2"];
            foreach (string key in run == 0 ? keys : keys.Reverse())
                writer.AddMetadata(key, "v");
            writer.Save(_folder[$"order{run}"]);
            files[run] = File.ReadAllBytes(_folder[$"order{run}"]);
        }

        Assert.Equal(files[0], files[1]);
    }

    [Fact]
    public unsafe void Add_NativeMemoryAcrossBuffers_IsStreamedWhole()
    {
        const int count = (3 << 20) + 5;
        byte* memory = (byte*)NativeMemory.Alloc(count);
        try
        {
            new Random(3).NextBytes(new Span<byte>(memory, count));
            SafetensorsWriter writer = new();
            writer.Add("native", TensorDataType.U8, [count], (nint)memory);
            writer.Save(_folder["native"]);
            using SafetensorsReader reader = SafetensorsReader.Open(_folder["native"]);
            Assert.True(reader.Bytes("native").SequenceEqual(new(memory, count)));
            byte[] part = new byte[1000];
            reader.CopyTo("native", 1_048_000, part);
            Assert.Equal(new Span<byte>(memory + 1_048_000, 1000).ToArray(), part);
            byte[] all = new byte[count];
            fixed (byte* target = all)
                reader.CopyTo("native", target, count);
            Assert.True(all.AsSpan().SequenceEqual(new(memory, count)));
        }
        finally
        {
            NativeMemory.Free(memory);
        }
    }

    [Fact]
    public void Add_BadArguments_AreRefused()
    {
        SafetensorsWriter writer = new();
        writer.Add("a", TensorDataType.F32, [1], new float[1]);
        Assert.Contains("added before", Assert.Throws<ArgumentException>(() => writer.Add("a", TensorDataType.F32, [1], new float[1])).Message, StringComparison.Ordinal);
        Assert.Contains("cannot be called", Assert.Throws<ArgumentException>(() => writer.Add("__metadata__", TensorDataType.F32, [1], new float[1])).Message, StringComparison.Ordinal);
        Assert.Contains("but 3 elements", Assert.Throws<ArgumentException>(() => writer.Add("b", TensorDataType.F32, [2], new float[3])).Message, StringComparison.Ordinal);
        Assert.Contains("not given as Int32", Assert.Throws<ArgumentException>(() => writer.Add("b", TensorDataType.F32, [2], new int[2])).Message, StringComparison.Ordinal);
        Assert.Contains("63 bits", Assert.Throws<ArgumentException>(() => writer.Add("b", TensorDataType.F64, [1L << 60], (_, _) => { })).Message, StringComparison.Ordinal);
        Assert.Contains("null address", Assert.Throws<ArgumentException>(() => writer.Add("b", TensorDataType.F32, [2], 0)).Message, StringComparison.Ordinal);
        Assert.Contains("surrogate", Assert.Throws<ArgumentException>(() => writer.Add("\ud800", TensorDataType.F32, [0], 0)).Message, StringComparison.Ordinal);
        writer.AddMetadata("k", "v");
        Assert.Contains("added before", Assert.Throws<ArgumentException>(() => writer.AddMetadata("k", "w")).Message, StringComparison.Ordinal);
        writer.Add("b", TensorDataType.F32, [2], new float[2]);
        writer.Save(_folder["ok"]);
        using SafetensorsReader reader = SafetensorsReader.Open(_folder["ok"]);
        Assert.Equal(["a", "b"], reader.Header.Tensors.Select(tensor => tensor.Name));
    }

    [Fact]
    public void Save_OverAnOpenFile_LeavesTheReaderItsContent()
    {
        SafetensorsWriter first = new();
        first.Add("a", TensorDataType.I32, [1000], Enumerable.Repeat(1, 1000).ToArray());
        first.Save(_folder["shared"]);
        using SafetensorsReader reader = SafetensorsReader.Open(_folder["shared"]);
        SafetensorsWriter second = new();
        second.Add("a", TensorDataType.I32, [1], new[] { 2 });
        if (OperatingSystem.IsWindows())
        {
            Assert.Contains(_folder["shared"], Assert.Throws<IOException>(() => second.Save(_folder["shared"])).Message, StringComparison.Ordinal);
            reader.Dispose();
            second.Save(_folder["shared"]);
        }
        else
        {
            second.Save(_folder["shared"]);
            Assert.Equal(1, reader.Elements<int>("a")[999]);
        }

        Assert.Equal(1, SafetensorsHeader.Read(_folder["shared"])["a"].Count);
        Assert.Single(Directory.GetFiles(_folder.Root));
    }

    [Fact]
    public void Save_SourceThrows_LeavesTheOldFileAndNoOther()
    {
        File.WriteAllText(_folder["keep"], "old");
        SafetensorsWriter writer = new();
        writer.Add("a", TensorDataType.U8, [5], (_, _) => throw new InvalidDataException("device lost"));
        Assert.Throws<InvalidDataException>(() => writer.Save(_folder["keep"]));
        Assert.Equal("old", File.ReadAllText(_folder["keep"]));
        Assert.Single(Directory.GetFiles(_folder.Root));
    }

    [Fact]
    public void Save_AfterAKilledWriter_DeletesItsLeftoversOnly()
    {
        string leftover = _folder[$".a.{Guid.NewGuid():N}.tmp"];
        string young = _folder[$".a.{Guid.NewGuid():N}.tmp"];
        string foreign = _folder[".a.mine.tmp"];
        string held = _folder[$".a.{Guid.NewGuid():N}.tmp"];
        foreach (string path in new[] { leftover, young, foreign, held })
        {
            File.WriteAllText(path, "x");
            if (path != young)
                File.SetLastWriteTimeUtc(path, DateTime.UtcNow.AddHours(-1));
        }

        using (new FileStream(held, FileMode.Open, FileAccess.Read, FileShare.None))
            new SafetensorsWriter().Save(_folder["a"]);
        Assert.False(File.Exists(leftover));
        Assert.True(File.Exists(young));
        Assert.True(File.Exists(foreign));
        Assert.True(File.Exists(held));
    }

    [Fact]
    public void Open_FileOverTwoGigabytes_ReadsBothEnds()
    {
        const long count = (3L << 30) + 17;
        string path = _folder["sparse"];
        byte[] json = Encoding.UTF8.GetBytes($"{{\"big\":{{\"dtype\":\"U8\",\"shape\":[{count}],\"data_offsets\":[0,{count}]}}}}");
        using (FileStream stream = new(path, FileMode.Create))
        {
            byte[] length = new byte[8];
            BinaryPrimitives.WriteInt64LittleEndian(length, json.Length);
            stream.Write(length);
            stream.Write(json);
            stream.WriteByte(11);
            stream.SetLength(8 + json.Length + count);
            stream.Seek(-1, SeekOrigin.End);
            stream.WriteByte(22);
        }

        using SafetensorsReader reader = SafetensorsReader.Open(path);
        byte[] ends = new byte[2];
        reader.CopyTo("big", 0, ends.AsSpan(0, 1));
        reader.CopyTo("big", count - 1, ends.AsSpan(1));
        Assert.Equal([11, 22], ends);
        Assert.Throws<NotSupportedException>(() => reader.Bytes("big").Length);
    }

    [Fact]
    public void Open_Truncated_IsRefusedAtEveryLength()
    {
        SafetensorsWriter writer = new();
        writer.Add("a", TensorDataType.F32, [7], new float[7]);
        writer.Add("b", TensorDataType.U8, [3], new byte[3]);
        writer.AddMetadata("k", "v");
        writer.Save(_folder["whole"]);
        byte[] whole = File.ReadAllBytes(_folder["whole"]);
        for (int length = 0; length < whole.Length; length++)
        {
            File.WriteAllBytes(_folder["cut"], whole[..length]);
            CheckpointFormatException error = Assert.Throws<CheckpointFormatException>(() => SafetensorsReader.Open(_folder["cut"]));
            Assert.Contains("cut", error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Parse_FlippedBitsInTheHeader_NeverGiveAnotherError()
    {
        SafetensorsWriter writer = new();
        writer.Add("layer.weight", TensorDataType.F32, [2, 3], new float[6]);
        writer.Add("layer.bias", TensorDataType.F32, [2], new float[2]);
        writer.AddMetadata("k", "v");
        writer.Save(_folder["whole"]);
        byte[] whole = File.ReadAllBytes(_folder["whole"]);
        long headerEnd = SafetensorsHeader.Read(_folder["whole"]).DataStart;
        int refused = 0;
        for (int bit = 0; bit < headerEnd * 8; bit++)
        {
            byte[] copy = [.. whole];
            copy[bit / 8] ^= (byte)(1 << (bit % 8));
            File.WriteAllBytes(_folder["flipped"], copy);
            try
            {
                using SafetensorsReader reader = SafetensorsReader.Open(_folder["flipped"]);
                Assert.Equal(32, reader.Header.Tensors.Sum(tensor => tensor.ByteLength));
            }
            catch (CheckpointFormatException)
            {
                refused++;
            }
        }

        Assert.True(refused > headerEnd * 4, $"only {refused} of {headerEnd * 8} were refused");
    }

    [Theory]
    [InlineData("", 0, "does not begin with '{'")]
    [InlineData(" {}", 0, "does not begin with '{'")]
    [InlineData("[]", 0, "does not begin with '{'")]
    [InlineData("{", 0, "ends too early")]
    [InlineData("{}x", 0, "other than spaces")]
    [InlineData("{}\n", 0, "other than spaces")]
    [InlineData("{}{}", 0, "other than spaces")]
    [InlineData("{}", 1, "every byte must belong to a tensor")]
    [InlineData("{\"a\":1}", 0, "\"a\" is not an object")]
    [InlineData("{\"a\":{}}", 0, "has no dtype")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "has no data_offsets")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "has no shape")]
    [InlineData("{\"a\":{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype \"F31\"; known are BOOL, U8")]
    [InlineData("{\"a\":{\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype \"f32\"")]
    [InlineData("{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "must be a string")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}}", 4, "shape that is not an array")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "has -1 in its shape")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", 4, "has 1.0 in its shape")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[[1]],\"data_offsets\":[0,4]}}", 4, "in its shape")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,4]}}", 4, "integers from 0 to 2^63 - 1")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, "does not fit 63 bits")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "has 4 bytes of data; F32 [2] takes 8")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "must ascend")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 4, "within the 4 bytes of data")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "1 data_offsets")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":0}}", 4, "unknown key \"x\"")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "has dtype twice")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "names tensor \"a\" twice")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"\\u0061\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "names tensor \"a\" twice")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[2,6]}}", 6, "overlaps tensor \"a\"")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[6,10]}}", 10, "leaves a hole after tensor \"a\"")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "leaves a hole after the start")]
    [InlineData("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 9, "every byte must belong")]
    [InlineData("{\"__metadata__\":{\"k\":1}}", 0, "must be a string")]
    [InlineData("{\"__metadata__\":\"k\"}", 0, "not an object of strings")]
    [InlineData("{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0, "key \"k\" twice")]
    [InlineData("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "names __metadata__ twice")]
    [InlineData("{\"\\ud800\":{}}", 0, "not valid JSON")]
    [InlineData("{\"a\":[[[[[[[[[[[[1]]]]]]]]]]]]}", 0, "\"a\" is not an object")]
    [InlineData("{/**/}", 0, "not valid JSON")]
    [InlineData("{\"__metadata__\":{},}", 0, "not valid JSON")]
    public void Parse_BrokenRule_IsNamed(string json, long dataLength, string expected)
    {
        CheckpointFormatException error = Assert.Throws<CheckpointFormatException>(
            () => SafetensorsHeader.Parse(Encoding.UTF8.GetBytes(json), "some.safetensors", dataLength));
        Assert.StartsWith("some.safetensors: ", error.Message, StringComparison.Ordinal);
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Parse_InvalidUtf8_IsRefused()
    {
        byte[] json = [.. "{\""u8, 0xFF, .. "\":{}}"u8];
        Assert.Contains("UTF-8", Assert.Throws<CheckpointFormatException>(() => SafetensorsHeader.Parse(json, "f", 0)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Open_HeaderLengthOverTheLimit_IsRefusedBeforeItIsRead()
    {
        byte[] file = new byte[16];
        BinaryPrimitives.WriteInt64LittleEndian(file, SafetensorsHeader.MaxHeaderBytes + 1);
        File.WriteAllBytes(_folder["long"], file);
        Assert.Contains("at most 100000000", Assert.Throws<CheckpointFormatException>(() => SafetensorsReader.Open(_folder["long"])).Message, StringComparison.Ordinal);
        file.AsSpan(0, 8).Fill(0xFF);
        File.WriteAllBytes(_folder["long"], file);
        Assert.Throws<CheckpointFormatException>(() => SafetensorsReader.Open(_folder["long"]));
    }

    [Fact]
    public void Bytes_AfterDispose_Throws()
    {
        new SafetensorsWriter().Save(_folder["gone"]);
        SafetensorsReader reader = SafetensorsReader.Open(_folder["gone"]);
        reader.Dispose();
        reader.Dispose();
        Assert.Throws<ObjectDisposedException>(() => reader.Bytes("a").Length);
    }
}
