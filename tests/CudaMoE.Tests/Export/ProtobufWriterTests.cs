using CudaMoE.Export;

namespace CudaMoE.Tests.Export;

/// <summary>The wire format byte by byte; where they exist, the examples of its specification (protobuf.dev/programming-guides/encoding).</summary>
public sealed class ProtobufWriterTests
{
    [Theory]
    [InlineData(1, 0, "0800")]
    [InlineData(1, 1, "0801")]
    [InlineData(1, 127, "087F")]
    [InlineData(1, 128, "088001")]
    [InlineData(1, 150, "089601")]
    [InlineData(1, 16_384, "08808001")]
    [InlineData(1, int.MaxValue, "08FFFFFFFF07")]
    [InlineData(1, long.MaxValue, "08FFFFFFFFFFFFFFFF7F")]
    [InlineData(1, -1, "08FFFFFFFFFFFFFFFFFF01")]
    [InlineData(1, long.MinValue, "0880808080808080808001")]
    [InlineData(15, 1, "7801")]
    [InlineData(16, 1, "800101")]
    [InlineData(20, 7, "A00107")]
    public void Integer_IsATagAndAVarint(int field, long value, string expected) => Assert.Equal(expected, Hex(new ProtobufWriter().Integer(field, value)));

    [Fact]
    public void Text_IsATagALengthAndUtf8()
    {
        Assert.Equal("120774657374696E67", Hex(new ProtobufWriter().Text(2, "testing")));
        Assert.Equal("1200", Hex(new ProtobufWriter().Text(2, "")));
        Assert.Equal("1204C3A4C3B6", Hex(new ProtobufWriter().Text(2, "äö")));
    }

    [Fact]
    public void Message_IsATagALengthAndItsFields() =>
        Assert.Equal("1A03089601", Hex(new ProtobufWriter().Message(3, new ProtobufWriter().Integer(1, 150))));

    [Fact]
    public void Single_IsATagAndFourBytesFromTheLowest()
    {
        Assert.Equal("150000803F", Hex(new ProtobufWriter().Single(2, 1)));
        Assert.Equal("15DB0F49C0", Hex(new ProtobufWriter().Single(2, -float.Pi)));
    }

    [Fact]
    public void Bytes_AboveOneByteOfLength_HaveTwo()
    {
        ProtobufWriter writer = new ProtobufWriter().Bytes(9, new byte[300]);

        Assert.Equal("4AAC02", Convert.ToHexString(writer.Written[..3]));
        Assert.Equal(303, writer.Length);
    }

    [Fact]
    public void Header_OfWhatIsWrittenElsewhere_MayBeBeyond31Bits() =>
        Assert.Equal("4A8080808010", Hex(new ProtobufWriter().Header(9, 1L << 32)));

    [Fact]
    public void Fields_AreInTheOrderOfTheCalls() =>
        Assert.Equal("0801120161" + "0802", Hex(new ProtobufWriter().Integer(1, 1).Text(2, "a").Integer(1, 2)));

    private static string Hex(ProtobufWriter writer) => Convert.ToHexString(writer.Written);
}
