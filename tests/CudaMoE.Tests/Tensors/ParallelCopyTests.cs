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
        using ParallelCopy copy = new();
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
}
