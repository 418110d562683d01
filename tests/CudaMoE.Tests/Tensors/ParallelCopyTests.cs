using CudaMoE.Tensors;

namespace CudaMoE.Tests.Tensors;

public sealed unsafe class ParallelCopyTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(1_000_003)]
    [InlineData((1 << 20) - 1)]
    [InlineData(1 << 20)]
    [InlineData(20_000_001)]
    public void Run_AnySize_CopiesAllOfItAndNothingMore(int bytes)
    {
        byte[] source = new byte[bytes], destination = new byte[bytes + 2];
        new Random(bytes).NextBytes(source);
        ParallelCopy copy = new();
        for (int i = 0; i < 3; i++)
        {
            Array.Fill(destination, (byte)0xCD);
            fixed (byte* from = source, to = destination)
                copy.Run(from, to + 1, bytes);
            Assert.True(source.AsSpan().SequenceEqual(destination.AsSpan(1, bytes)));
            Assert.Equal(0xCD, destination[0]);
            Assert.Equal(0xCD, destination[^1]);
        }
    }

    [Fact]
    public void Run_ManyTimesOfSizesThatChange_CopiesEachWhole()
    {
        const int Most = 8 << 20;
        byte[] source = new byte[Most], destination = new byte[Most];
        ParallelCopy copy = new();
        Random random = new(4);
        for (int i = 0; i < 300; i++)
        {
            int bytes = random.Next(2 << 20, Most);
            source.AsSpan(0, bytes).Fill((byte)i);
            source[bytes - 1] = (byte)~i;
            destination.AsSpan(0, bytes).Clear();
            fixed (byte* from = source, to = destination)
                copy.Run(from, to, bytes);
            Assert.True(source.AsSpan(0, bytes).SequenceEqual(destination.AsSpan(0, bytes)), $"copy {i} of {bytes} bytes");
        }
    }

    [Fact]
    public void Run_WhenNoHelperBegins_CopiesOnTheCallersThread()
    {
        byte[] source = new byte[8 << 20], destination = new byte[8 << 20];
        new Random(1).NextBytes(source);
        List<IThreadPoolWorkItem> late = [];
        ParallelCopy copy = new(late.Add, helpers: 3);
        for (int i = 0; i < 3; i++)
        {
            Array.Clear(destination);
            fixed (byte* from = source, to = destination)
                copy.Run(from, to, source.Length);
            Assert.True(source.AsSpan().SequenceEqual(destination));
        }

        // They are queued once, and find nothing to do when they come at last.
        Assert.Equal(3, late.Count);
        late.ForEach(item => item.Execute());
    }
}
