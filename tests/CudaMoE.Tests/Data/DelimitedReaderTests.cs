using System.Text;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Data;

public sealed class DelimitedReaderTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("a,b\n1,2\n3,4\n")]
    [InlineData("a,b\r\n1,2\r\n3,4\r\n")]
    [InlineData("a,b\n1,2\n3,4")]
    [InlineData("\uFEFFa,b\n1,2\n3,4\n")]
    [InlineData("a,b\n\n1,2\n\n\n3,4\n\n")]
    [InlineData(" a\t, b\n1 ,\t2\n  3,4  \n")]
    [InlineData("\"a\",\"b\"\n\"1\",2\n3 , \"4\" \n")]
    public void Read_SameTableWrittenOtherwise_GivesTheSameFields(string text)
    {
        foreach (string path in new[] { _folder.Write("t.csv", text), _folder.Write("t.csv.gz", TestFiles.Gzip(text)), _folder.Write("t.data", TestFiles.Gzip(text)) })
        {
            using DelimitedReader reader = new(path, new());
            Assert.Equal(["a", "b"], reader.Columns);
            Assert.Equal([["1", "2"], ["3", "4"]], All(reader));
            Assert.Equal(2, reader.Rows);
            Assert.Equal(1, reader.IndexOf("b", "feature \"b\""));
        }
    }

    [Fact]
    public void Read_QuotedSeparatorsQuotesAndLines_AreText()
    {
        string path = _folder.Write("t.csv", "a,b\n\"x,\"\"y\"\"\n\",\" z \"\n5\" pipe,é→😀\n");
        using DelimitedReader reader = new(path, new());
        Assert.True(reader.Read());
        Assert.Equal(2, reader.Line);
        Assert.Equal("x,\"y\"\n", Text(reader, 0));
        Assert.Equal(" z ", Text(reader, 1));
        Assert.True(reader.Read());
        Assert.Equal(4, reader.Line);
        Assert.Equal("5\" pipe", Text(reader, 0));
        Assert.Equal("é→😀", Text(reader, 1));
        Assert.False(reader.Read());
    }

    [Fact]
    public void Read_NoQuoteNoTrimNoHeaderTabs_TakesTextAsItIs()
    {
        string path = _folder.Write("t.tsv", "\"x\t y \n\tz\"\n");
        using DelimitedReader reader = new(path, new() { Separator = "\t", Quote = null, Trim = false, Header = false, Columns = ["a", "b"] });
        Assert.Equal([["\"x", " y "], ["", "z\""]], All(reader));
    }

    [Fact]
    public void IsMissing_EmptyAndListedTexts_AreMissing()
    {
        string path = _folder.Write("t.csv", "a,b,c,d\n,?, NA ,0\n");
        using DelimitedReader reader = new(path, new() { Missing = ["?", "NA"] });
        Assert.True(reader.Read());
        Assert.Equal([true, true, true, false], Enumerable.Range(0, 4).Select(i => reader.IsMissing(reader.Field(i))));
    }

    [Theory]
    [InlineData(20261121, 40)]
    public void Read_RandomTables_EqualTheOnesWritten(int seed, int tables)
    {
        Random random = new(seed);
        for (int table = 0; table < tables; table++)
        {
            int columns = random.Next(1, 9);
            string newline = random.Next(2) == 0 ? "\n" : "\r\n";
            char separator = ",;\t|"[random.Next(4)];
            List<string[]> rows = [];
            StringBuilder text = new(string.Join(separator, Enumerable.Range(0, columns).Select(i => $"c{i}")) + newline);
            for (int row = random.Next(1, 400); row > 0; row--)
            {
                string[] fields = [.. Enumerable.Range(0, columns).Select(_ => RandomField(random))];
                // An empty line is no row, so a lone field has text.
                if (columns == 1 && fields[0].Length == 0)
                    fields[0] = "x";
                rows.Add(fields);
                text.Append(string.Join(separator, fields.Select(field => Quote(field, separator, random)))).Append(newline);
            }

            string path = _folder.Write("t.csv", random.Next(2) == 0 ? Encoding.UTF8.GetBytes(text.ToString()) : TestFiles.Gzip(text.ToString()));
            using DelimitedReader reader = new(path, new() { Separator = separator.ToString() });
            string[][] read = All(reader);
            Assert.True(rows.Count == read.Length, $"seed {seed}, table {table}");
            for (int row = 0; row < read.Length; row++)
                Assert.True(rows[row].SequenceEqual(read[row]), $"seed {seed}, table {table}, row {row}");
        }
    }

    [Fact]
    public void Read_LongFieldsAcrossBuffers_AreWhole()
    {
        Random random = new(5);
        string[][] rows = [.. Enumerable.Range(0, 60).Select(i => new[] { new string((char)('a' + (i % 26)), random.Next(200_000)), i.ToString() })];
        using DelimitedReader reader = new(_folder.Write("t.csv", "a,b\n" + string.Concat(rows.Select(row => $"{row[0]},{row[1]}\n"))), new());
        Assert.Equal(rows, All(reader));
    }

    public static TheoryData<string, string, long, string?, string> BrokenText => new()
    {
        { "columns.csv", "a,b\n1,2\n1,2,3\n", 3, null, "the row has 3 fields; the header names 2 fields, separated by ','" },
        { "fewer.csv", "a,b\n\n1\n", 3, null, "the row has 1 field; the header names 2 fields" },
        { "open.csv", "a,b\n1,\"2\n3,4\n", 2, null, "a quote is opened and never closed" },
        { "behind.csv", "a,b\n1,\"2\"x\n3,4\n", 2, null, "text behind its closing quote" },
        { "numbers.csv", "1,2\n3,4\n", 1, null, "the header is missing" },
        { "unnamed.csv", "a,,b\n3,4,5\n", 1, null, "column 2 of the header has no name" },
        { "blank.csv", "\n\n", 0, null, "its first line must name the columns" },
        { "plain.csv.gz", "a,b\n3,4,5\n", 0, null, "the name ends in .gz, but the content is not gzip data" },
        { "empty.csv", "", 0, null, "the file is empty" },
    };

    [Theory]
    [MemberData(nameof(BrokenText))]
    public void Read_BrokenText_NamesFileLineAndRule(string name, string text, long line, string? column, string rule)
    {
        string path = _folder.Write(name, text);
        AssertFails(path, line, column, rule);
    }

    [Fact]
    public void Read_LineOfAMillionCharacters_StatesTheLimit()
    {
        AssertFails(_folder.Write("long.csv", $"a,b\n1,2\n{new string('x', 1_000_000)},2\n"), 3, null, "longer than 524,288 bytes");
        AssertFails(_folder.Write("one.csv", $"a,b\n1,2\n{new string('x', 1_000_000)}"), 3, null, "longer than 524,288 bytes");
        AssertFails(_folder.Write("long.csv.gz", TestFiles.Gzip($"a,b\n1,2\n\"{new string('\n', 1_000_000)}")), 3, null, "longer than 524,288 bytes");
        AssertFails(_folder.Write("over.csv", $"a,b\n{new string('x', DelimitedReader.MaxRowBytes - 1)},2\n"), 2, null, "longer than 524,288 bytes");
        using DelimitedReader reader = new(_folder.Write("fits.csv", $"a,b\n{new string('x', DelimitedReader.MaxRowBytes - 2)},2\n"), new());
        Assert.True(reader.Read());
    }

    [Fact]
    public void Read_InvalidUtf8_NamesByteAndColumn()
    {
        AssertFails(_folder.Write("t.csv", [.. "a,b\n1,2\nx,caf"u8, 0xE9, .. "\n"u8]), 3, "b", "field 2 is not valid UTF-8: byte 0xE9 at position 4");
        AssertFails(_folder.Write("h.csv", [.. "a,"u8, 0xFF, 0xC0, .. "\n1,2\n"u8]), 1, null, "field 2 is not valid UTF-8: byte 0xFF at position 1");
    }

    [Fact]
    public void Read_BrokenGzip_SaysSo()
    {
        Random random = new(3);
        byte[] whole = TestFiles.Gzip("a,b\n" + string.Concat(Enumerable.Range(0, 50_000).Select(i => $"{i},{random.Next()}\n")));
        foreach (int length in new[] { 2, 10, 11, whole.Length / 2, whole.Length - 9, whole.Length - 8, whole.Length - 1 })
            AssertFails(_folder.Write("cut.csv.gz", whole[..length]), 0, null, "the gzip data is broken or cut off");
        byte[] altered = [.. whole];
        altered[^8] ^= 1;
        AssertFails(_folder.Write("checksum.csv.gz", altered), 0, null, "the gzip data is broken or cut off");
        altered = [.. whole];
        altered.AsSpan(whole.Length / 2, 64).Fill(0xFF);
        Assert.Throws<DataException>(() => ReadAll(_folder.Write("altered.csv.gz", altered)));
        ReadAll(_folder.Write("whole.csv.gz", whole));
        ReadAll(_folder.Write("members.csv.gz", [.. TestFiles.Gzip("a,b\n1,2\n"), .. TestFiles.Gzip("3,4\n")]));
    }

    [Fact]
    public void Open_NoFileOrAFolder_SaysSo()
    {
        AssertFails(_folder["absent.csv"], 0, null, "there is no such file");
        AssertFails(_folder["no/where.csv"], 0, null, "there is no such file");
        AssertFails(_folder.Root, 0, null, "this is a folder");
    }

    [Fact]
    public void IndexOf_MisspeltOrDoubleColumn_SuggestsTheNearest()
    {
        using DelimitedReader reader = new(_folder.Write("t.csv", "user_id,item_id,age,age\n1,2,3,4\n"), new());
        DataException error = Assert.Throws<DataException>(() => reader.IndexOf("userid", "feature \"user\""));
        Assert.Contains("feature \"user\" needs the column \"userid\", which the file does not have; did you mean \"user_id\"?", error.Message, StringComparison.Ordinal);
        Assert.Contains("two columns have this name", Assert.Throws<DataException>(() => reader.IndexOf("age", "x")).Message, StringComparison.Ordinal);
        Assert.Contains("it has user_id, item_id", Assert.Throws<DataException>(() => reader.IndexOf("zzzzzzzzzz", "x")).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("", "\"")]
    [InlineData(",,", "\"")]
    [InlineData("é", "\"")]
    [InlineData("\n", "\"")]
    [InlineData(",", "''")]
    public void Open_SeparatorOrQuoteNotOneCharacter_IsRefused(string separator, string quote)
    {
        string path = _folder.Write("t.csv", "a,b\n1,2\n");
        DataException error = Assert.Throws<DataException>(() => new DelimitedReader(path, new() { Separator = separator, Quote = quote }));
        Assert.Contains("it must be one ASCII character", error.Message, StringComparison.Ordinal);
    }

    private static void ReadAll(string path)
    {
        using DelimitedReader reader = new(path, new());
        while (reader.Read())
        {
        }
    }

    private static void AssertFails(string path, long line, string? column, string rule)
    {
        DataException error = Assert.Throws<DataException>(() => ReadAll(path));
        Assert.Contains(rule, error.Message, StringComparison.Ordinal);
        Assert.StartsWith(path, error.Message, StringComparison.Ordinal);
        Assert.Equal(line, error.Line);
        Assert.Equal(column, error.Column);
        if (line > 0)
            Assert.Contains($", line {line}", error.Message, StringComparison.Ordinal);
    }

    private static string Text(DelimitedReader reader, int column) => Encoding.UTF8.GetString(reader.Field(column));

    private static string[][] All(DelimitedReader reader)
    {
        List<string[]> rows = [];
        while (reader.Read())
            rows.Add([.. Enumerable.Range(0, reader.Columns.Count).Select(i => Text(reader, i))]);
        return [.. rows];
    }

    private static string RandomField(Random random)
    {
        const string Alphabet = "abc,;|\t\"\n\r é→";
        string field = new([.. Enumerable.Range(0, random.Next(9)).Select(_ => Alphabet[random.Next(Alphabet.Length)])]);
        return field.Replace("\r", "\r\n", StringComparison.Ordinal);
    }

    private static string Quote(string field, char separator, Random random)
    {
        bool needed = field.AsSpan().ContainsAny("\"\r\n" + separator) || field != field.Trim(' ', '\t');
        return needed || random.Next(4) == 0 ? $"\"{field.Replace("\"", "\"\"", StringComparison.Ordinal)}\"" : field;
    }
}
