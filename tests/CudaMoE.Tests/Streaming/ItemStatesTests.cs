using CudaMoE.Checkpoints;
using CudaMoE.Streaming;
using CudaMoE.Tensors;
using CudaMoE.Tests.Support;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Streaming;

/// <summary>Frozen states: the file and its faults, the synthetic ones, those of texts.</summary>
public sealed class ItemStatesTests(ITestOutputHelper output) : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(StateType.F32)]
    [InlineData(StateType.F16)]
    [InlineData(StateType.Bf16)]
    public void File_WrittenAndRead_HoldsTheRoundedStates(StateType type)
    {
        SyntheticStates source = new(layers: 3, width: 7, factors: 4, seed: 5);
        string[] items = ["a", "", "ccc", "größe"];
        StateFile.Write(_folder["s"], items, source, type);

        using StateFile file = StateFile.Open(_folder["s"]);

        Assert.Equal((4, 3, 7), (file.Count, file.Layers, file.Width));
        float[] expected = new float[21];
        float[] read = new float[21];
        foreach (string item in items)
        {
            source.Read(item, expected);
            Assert.True(file.Read(item, read));
            Assert.Equal(
                expected.Select(x => type switch { StateType.F32 => x, StateType.F16 => (float)(Half)x, _ => BFloat16.ToSingle(BFloat16.FromSingle(x)) }),
                read);
        }

        Array.Fill(read, float.NaN);
        Assert.False(file.Read("unknown", read));
        Assert.All(read, x => Assert.Equal(0, x));
    }

    /// <summary>Larger than the writer's buffer, with rows that cross its ends.</summary>
    [Fact]
    public void File_OfManyItems_HoldsAllAndTellsProgress()
    {
        SyntheticStates source = new(layers: 2, width: 333, factors: 2, seed: 1);
        string[] items = [.. Enumerable.Range(0, 700).Select(i => $"item {i}")];
        int told = 0;
        StateFile.Write(_folder["s"], items, source, StateType.F32, count => told = count);
        Assert.Equal(700, told);
        using StateFile file = StateFile.Open(_folder["s"]);
        float[] expected = new float[666];
        float[] read = new float[666];
        foreach (string item in items)
        {
            source.Read(item, expected);
            file.Read(item, read);
            Assert.Equal(expected, read);
        }
    }

    [Fact]
    public void File_CutOffOrAltered_IsRefused()
    {
        StateFile.Write(_folder["s"], ["a", "b"], new SyntheticStates(2, 4, 2, 1));
        byte[] whole = File.ReadAllBytes(_folder["s"]);
        int seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        Random random = new(seed);
        for (int round = 0; round < 100; round++)
        {
            File.WriteAllBytes(_folder["cut"], whole[..random.Next(whole.Length)]);
            Assert.Throws<CheckpointFormatException>(() => StateFile.Open(_folder["cut"]));

            // A bit of the data part, which the format's rules cannot see.
            byte[] altered = [.. whole];
            int data = 8 + (int)BitConverter.ToInt64(whole);
            altered[random.Next(data, whole.Length)] ^= (byte)(1 << random.Next(8));
            File.WriteAllBytes(_folder["altered"], altered);
            CheckpointFormatException error = Assert.Throws<CheckpointFormatException>(() => StateFile.Open(_folder["altered"]));
            Assert.Contains("the file was altered", error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void File_OfAnotherProgram_NeedsNoHashButTheRightTensors()
    {
        Save("good", writer =>
        {
            writer.Add("states", TensorDataType.F32, [2, 1, 2], new float[] { 1, 2, 3, 4 });
            writer.Add("names", TensorDataType.U8, [3], new byte[] { (byte)'a', (byte)'b', (byte)'c' });
            writer.Add("name_ends", TensorDataType.I64, [2], new long[] { 1, 3 });
        });
        using (StateFile file = StateFile.Open(_folder["good"]))
        {
            float[] read = new float[2];
            Assert.True(file.Read("bc", read));
            Assert.Equal([3f, 4f], read);
        }

        Check("shape", "it must be f32, f16 or bf16 [items, layers, width]", TensorDataType.F32, [4], [1, 3]);
        Check("twice", "names item \"\" twice", TensorDataType.F32, [2, 1, 2], [0, 0]);
        Check("ends", "it must ascend", TensorDataType.F32, [2, 1, 2], [2, 1]);
        Check("behind", "it must ascend", TensorDataType.F32, [2, 1, 2], [2, 4]);

        void Check(string name, string message, TensorDataType type, long[] shape, long[] ends)
        {
            Save(name, writer =>
            {
                writer.Add("states", type, shape, new float[] { 1, 2, 3, 4 });
                writer.Add("names", TensorDataType.U8, [3], new byte[] { 1, 2, 3 });
                writer.Add("name_ends", TensorDataType.I64, [2], ends);
            });
            Assert.Contains(message, Assert.Throws<CheckpointFormatException>(() => StateFile.Open(_folder[name])).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void File_OfNoItemOrOneNamedTwice_IsRefusedAndLeavesTheOldOne()
    {
        SyntheticStates source = new(1, 2, 2, 1);
        StateFile.Write(_folder["s"], ["a"], source);
        Assert.Throws<ArgumentException>(() => StateFile.Write(_folder["s"], [], source));
        Assert.Throws<ArgumentException>(() => StateFile.Write(_folder["s"], ["a", "a"], source));
        using StateFile file = StateFile.Open(_folder["s"]);
        Assert.Equal(1, file.Count);
    }

    [Fact]
    public void Synthetic_SameSeed_SameStates_AndGroupsAreAlike()
    {
        Dictionary<string, string> groups = new() { ["a"] = "g", ["b"] = "g", ["c"] = "h" };
        SyntheticStates states = new(3, 64, 16, 9, groups, 0.8);
        float[] a = Read(states, "a"), again = Read(new SyntheticStates(3, 64, 16, 9, groups, 0.8), "a"), other = Read(new SyntheticStates(3, 64, 16, 10, groups, 0.8), "a");
        Assert.Equal(a, again);
        Assert.NotEqual(a, other);
        for (int layer = 0; layer < 3; layer++)
        {
            float[] b = Read(states, "b"), c = Read(states, "c"), d = Read(states, "d");
            Assert.InRange(Cosine(a, b, layer), 0.4, 0.999);
            Assert.InRange(Math.Abs(Cosine(a, c, layer)), 0, 0.8);
            Assert.True(Cosine(a, b, layer) > Math.Abs(Cosine(a, d, layer)));
        }

        Assert.Equal(64, a.Skip(64).Take(64).Sum(x => (double)x * x), 3);

        double Cosine(float[] x, float[] y, int layer)
        {
            double xy = 0, xx = 0, yy = 0;
            for (int i = layer * 64; i < (layer + 1) * 64; i++)
                (xy, xx, yy) = (xy + (x[i] * y[i]), xx + (x[i] * x[i]), yy + (y[i] * y[i]));
            return xy / Math.Sqrt(xx * yy);
        }
    }

    [Fact]
    public void Text_Words_AreRunsOfLettersAndDigitsInLowerCase() =>
        Assert.Equal(["toy", "story", "1995", "les", "misérables"], HashedTextStates.Words("Toy Story (1995)|Les MISÉRABLES,"));

    [Fact]
    public void Text_States_AreSumsOfFeatureVectors()
    {
        Dictionary<string, string> texts = new() { ["ab"] = "b a", ["a"] = "A!", ["b"] = "b", ["bb"] = "b b", ["none"] = " - ", ["long"] = "abcd" };
        HashedTextStates states = new(texts, layers: 5, width: 40, seed: 3);
        Assert.Equal(Read(states, "ab"), Read(new HashedTextStates(texts, 5, 40, 3), "ab"));
        float[] a = Read(states, "a"), b = Read(states, "b"), ab = Read(states, "ab"), bb = Read(states, "bb");

        // One feature: its vector, scaled; twice the same word: the same state. Two words: along the sum of the two vectors.
        Assert.Equal(b[..40], bb[..40]);
        Assert.Equal(40, a[..40].Sum(x => (double)x * x), 3);
        (double x, double y) = InPlane(a, b, ab);
        for (int i = 0; i < 40; i++)
            Assert.Equal(ab[i], (x * a[i]) + (y * b[i]), tolerance: 1e-4);
        Assert.True(x > 0.3 && y > 0.3, $"{x} {y}");

        // Layer 4 has layer 0's features with other vectors.
        Assert.NotEqual(a[..40], a[160..]);
        float[] none = Read(states, "none", expected: false);
        Assert.All(none, value => Assert.Equal(0, value));
        Assert.Equal(none, Read(states, "unknown", expected: false));
        Assert.All(Read(states, "long"), value => Assert.True(float.IsFinite(value)));

        static (double X, double Y) InPlane(float[] a, float[] b, float[] z)
        {
            double aa = 0, ab = 0, bb = 0, az = 0, bz = 0;
            for (int i = 0; i < 40; i++)
                (aa, ab, bb, az, bz) = (aa + (a[i] * a[i]), ab + (a[i] * b[i]), bb + (b[i] * b[i]), az + (a[i] * z[i]), bz + (b[i] * z[i]));
            double determinant = (aa * bb) - (ab * ab);
            return (((az * bb) - (bz * ab)) / determinant, ((bz * aa) - (az * ab)) / determinant);
        }
    }

    private static float[] Read(IItemStates states, string item, bool expected = true)
    {
        float[] values = new float[states.Layers * states.Width];
        Array.Fill(values, float.NaN);
        Assert.Equal(expected, states.Read(item, values));
        return values;
    }

    private void Save(string name, Action<SafetensorsWriter> add)
    {
        SafetensorsWriter writer = new();
        add(writer);
        writer.Save(_folder[name]);
    }
}
