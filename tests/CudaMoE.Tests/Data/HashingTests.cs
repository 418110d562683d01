using CudaMoE.Data;

namespace CudaMoE.Tests.Data;

public sealed class HashingTests
{
    // The first values are those of the published specification and its reference program.
    [Theory]
    [InlineData("", 0, 0xEF46DB3751D8E999)]
    [InlineData("a", 0, 0xD24EC4F1A98C6E5B)]
    [InlineData("abc", 0, 0x44BC2CF5AD770999)]
    [InlineData("Nobody inspects the spammish repetition", 0, 0xFBCEA83C8A378BF1)]
    public void XxHash64_KnownTexts_HasPublishedValues(string text, ulong seed, ulong expected) =>
        Assert.Equal(expected, XxHash64.Hash(System.Text.Encoding.ASCII.GetBytes(text), seed));

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(7)]
    [InlineData(1000)]
    [InlineData(4096)]
    [InlineData(70_001)]
    public void Permutation_AnyCount_TakesEachElementOnce(int count)
    {
        foreach (ulong stream in new ulong[] { 0, 1, ulong.MaxValue })
        {
            Permutation order = new(count, 42, stream);
            bool[] seen = new bool[count];
            for (long i = 0; i < count; i++)
            {
                Assert.False(seen[order[i]]);
                seen[order[i]] = true;
            }
        }
    }

    [Fact]
    public void Permutation_Empty_HasNoPlace()
    {
        Permutation order = new(0, 1, 1);
        Assert.Throws<ArgumentOutOfRangeException>(() => order[0]);
        Assert.Throws<ArgumentOutOfRangeException>(() => new Permutation(5, 1, 1)[5]);
        Assert.Throws<ArgumentOutOfRangeException>(() => new Permutation(-1, 1, 1));
    }

    [Fact]
    public void Permutation_HugeCount_StaysInRange()
    {
        Permutation order = new(1L << 60, 1, 2);
        for (long i = 0; i < 1000; i++)
            Assert.InRange(order[(1L << 60) - 1 - i], 0, (1L << 60) - 1);
    }

    // Each element is equally likely at each place: chi-square over all streams, 24 elements x 24 places.
    [Fact]
    public void Permutation_ManyStreams_IsUniform()
    {
        const int Count = 24;
        const int Streams = 24_000;
        int[,] seen = new int[Count, Count];
        for (ulong stream = 0; stream < Streams; stream++)
        {
            Permutation order = new(Count, 7, stream);
            for (int place = 0; place < Count; place++)
                seen[place, order[place]]++;
        }

        double expected = (double)Streams / Count;
        double chiSquare = seen.Cast<int>().Sum(value => Math.Pow(value - expected, 2) / expected);
        // 23 * 23 = 529 degrees of freedom: mean 529, deviation 32.5; six deviations.
        Assert.InRange(chiSquare, 529 - 195, 529 + 195);
    }

    // A checkpoint resumes by the same order, so it may never change.
    [Fact]
    public void Permutation_Values_NeverChange() =>
        Assert.Equal(PermutationGolden, Enumerable.Range(0, 5).Select(i => new Permutation(1000, 1, 3)[i]));

    private static readonly long[] PermutationGolden = [253, 919, 156, 531, 493];
}
