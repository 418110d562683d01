using System.Globalization;
using System.IO.Compression;
using System.Text;
using System.Text.Json;
using CudaMoE.Cli.Starter;
using CudaMoE.Description;

namespace CudaMoE.Cli.Tests;

public sealed class InitTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    private string Model => Path.Combine(_folder.Path, "model.json");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Csv_OfManyKinds_BecomesTheFeaturesThatFit()
    {
        StringBuilder csv = new("user_id,age,income,city,genres,vector,constant,row,empty,clicked,stars\n");
        for (int i = 0; i < 300; i++)
        {
            double income = i % 50 == 0 ? 90_000 : i % 37;
            csv.AppendLine(CultureInfo.InvariantCulture, $"{i % 40},{20 + (i % 50)},{income},{(i % 9 == 0 ? "?" : $"city {i % 12}")},a|b{i % 3},{i} 0.5 {-i},x,row-{i},,{i % 2},{i % 5}");
        }

        ModelDescription model = Init(_folder.Write("data.csv", csv.ToString()), "--task", "clicked", "--task", "stars:regression");

        Dictionary<string, FeatureDescription> features = model.Features.ToDictionary(f => f.Name);
        Assert.Equal(["user_id", "age", "income", "city", "genres", "vector"], model.Features.Select(f => f.Name));
        Assert.Equal(FeatureType.Categorical, features["user_id"].Type);
        Assert.Equal((FeatureType.Dense, DenseTransform.Standardize), (features["age"].Type, features["age"].Transform));
        Assert.Equal((FeatureType.Dense, DenseTransform.Log), (features["income"].Type, features["income"].Transform));
        Assert.Equal(FeatureType.Categorical, features["city"].Type);
        Assert.Equal((FeatureType.MultiHot, "|"), (features["genres"].Type, features["genres"].ValueSeparator));
        Assert.Equal((FeatureType.Vector, 3, " "), (features["vector"].Type, features["vector"].Size, features["vector"].ValueSeparator));
        Assert.Equal(["clicked", "stars"], model.Tasks.Select(t => t.Name));
        Assert.Equal([TaskType.Binary, TaskType.Regression], model.Tasks.Select(t => t.Type));
        Assert.Equal(["?"], model.Data!.Format.Missing);
        Assert.Equal(ModelType.Mmoe, model.Architecture.Type);
        string text = File.ReadAllText(Model);
        Assert.Contains("// constant is left out: it has one value only", text, StringComparison.Ordinal);
        Assert.Contains("// row is left out: it differs in nearly every row", text, StringComparison.Ordinal);
        Assert.Contains("// empty is left out: it has no values", text, StringComparison.Ordinal);
    }

    [Fact]
    public void Census_WithoutAHeader_IsGuessedFromItsRows()
    {
        string line = " 73, Not in universe, 0, High school graduate, Widowed, 1700.09, - 50000.";
        string other = " 18, Private, 40, Bachelors degree(BA AB BS), Never married, 991.95, 50000+.";
        string path = Path.Combine(_folder.Path, "census.data.gz");
        using (StreamWriter writer = new(new GZipStream(File.Create(path), CompressionLevel.Fastest)))
        {
            for (int i = 0; i < 60; i++)
                writer.WriteLine(i % 5 == 0 ? other : line.Replace("73", $"{20 + i}", StringComparison.Ordinal));
        }

        ModelDescription model = Init(path, "--task", "column_7=50000+.", "--task", "column_5=Never married", "--ignore", "column_6");

        Assert.False(model.Data!.Format.Header);
        Assert.Equal(7, model.Data.Format.Columns!.Count);
        Assert.Equal(["50000+."], model.Tasks[0].Positive);
        Assert.Equal(["Never married"], model.Tasks[1].Positive);
        Assert.Equal(["column_1", "column_2", "column_3", "column_4"], model.Features.Select(f => f.Name));
        Assert.Equal("census", model.Name);
        Assert.Equal(path, Assert.Single(model.Data.Train));
    }

    [Fact]
    public void ShippedCensus_BecomesAModelFile()
    {
        string census = Path.Combine(Repository.Root, "data", "census-income-kdd");

        ModelDescription model = Init(
            Path.Combine(census, "census-income.data.gz"), "--test", Path.Combine(census, "census-income.test.gz"), "--task", "column_42=50000+.", "--sample", "5000");

        Assert.Equal(42, model.Data!.Format.Columns!.Count);
        Assert.Equal(["?", "NA"], model.Data.Format.Missing);
        Assert.Equal(FeatureType.Dense, model.Features.Single(f => f.Name == "column_1").Type);
        Assert.Equal(FeatureType.Categorical, model.Features.Single(f => f.Name == "column_2").Type);
        Assert.Equal("census-income", model.Name);
    }

    [Fact]
    public void Columns_CanBeNamed()
    {
        ModelDescription model = Init(_folder.Write("x.csv", "1,2,0\n3,4,1\n5,1,0\n"), "--columns", "a,b,y");

        Assert.Equal(["a", "b"], model.Features.Select(f => f.Name));
        Assert.Equal("y", Assert.Single(model.Tasks).Name);
    }

    [Theory]
    [InlineData("a,a,y\n1,2,0\n3,4,1\n", "same name")]
    [InlineData(",a,y\n0,p,1\n1,q,0\n", "column 1 of the header has no name")]
    public void Header_AboveNumbers_IsTakenAsOneAlsoWhenItIsWrong(string csv, string reason)
    {
        ToolResult result = ToolProcess.RunHere("init", _folder.Write("x.csv", csv), "--to", Model);

        Assert.Equal(2, result.ExitCode);
        Assert.Contains(reason, result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Encodings_ThatTheReaderKnows_AreGuessedFromToo()
    {
        const string Text = "a;b;y\r1,5;x;0\r2,5;y;1\r";
        string wide = Path.Combine(_folder.Path, "wide.csv");
        File.WriteAllText(wide, Text, Encoding.Unicode);
        string packed = Path.Combine(_folder.Path, "packed.csv");
        using (StreamWriter writer = new(new GZipStream(File.Create(packed), CompressionLevel.Fastest)))
            writer.Write(Text);

        foreach (string path in new[] { wide, packed })
        {
            ModelDescription model = Init(path, "--force");

            Assert.Equal((";", true), (model.Data!.Format.Separator, model.Data.Format.Header));
            Assert.Equal(["a", "b"], model.Features.Select(f => f.Name));
        }
    }

    [Theory]
    [InlineData("red", "blue", "10", 3, true)]
    [InlineData("9", "-1.5", "10", 3, true)]
    [InlineData("red", "blue", "10", 2, false)]
    public void Classes_AreListedWhereTheSampleIsTheWholeFile(string first, string second, string third, int sample, bool listed)
    {
        string data = _folder.Write("x.csv", $"a,y\n1.5,{first}\n2.5,{second}\n3.5,{third}\n");

        ModelDescription model = Init(data, "--task", "y:multiclass", "--sample", $"{sample}");

        string[] sorted = first == "9" ? [second, first, third] : [third, second, first];
        Assert.Equal(listed ? sorted : null, model.Tasks[0].Classes);
    }

    [Theory]
    [InlineData("a;b;y\n1,5;x;0\n2,5;y;1\n", ";")]
    [InlineData("a\tb\ty\n1\tx\t0\n2\ty\t1\n", "\t")]
    [InlineData("a|b|y\n1|x|0\n2|y|1\n", "|")]
    [InlineData("\ufeffa,b,y\r\n1,\"x, z\",0\r\n2,y,1\r\n", ",")]
    public void Separator_IsGuessed(string text, string separator)
    {
        ModelDescription model = Init(_folder.Write("x.csv", text));

        Assert.Equal(separator, model.Data!.Format.Separator);
        Assert.Equal(["a", "b"], model.Features.Select(f => f.Name));
    }

    [Theory]
    [InlineData("we\"ird", "x\\y", "line // comment")]
    [InlineData("naïve", "列", "emoji 🙂")]
    [InlineData("a:b", "c=d", "e/f")]
    public void OddNames_SurviveInTheFile(string first, string second, string label)
    {
        static string Q(string s) => $"\"{s.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";
        string csv = $"{Q(first)},{Q(second)},{Q(label)}\n1,u,yes\n2,v,no\n3,u,no\n";

        ModelDescription model = Init(_folder.Write("x.csv", csv), "--task", label);

        Assert.Equal([first, second], model.Features.Select(f => f.Name));
        Assert.Equal(label, model.Tasks[0].Column ?? model.Tasks[0].Name);
        Assert.Equal(["yes"], model.Tasks[0].Positive);
    }

    [Fact]
    public void Values_WithControlCharacters_DoNotBreakTheComments()
    {
        ModelDescription model = Init(_folder.Write("x.csv", "a,y\n\"one\u0007two\",A\nb,\"B\u2028}\"\nb,A\n"), "--task", "y");

        Assert.Equal("a", Assert.Single(model.Features).Name);
    }

    [Theory]
    [InlineData("rating,x,other\n1,a,0\n5,b,1\n3,a,1\n", "rating", TaskType.Regression)]
    [InlineData("x,flag,z\na,no,1.5\nb,yes,2.5\nc,no,3.5\n", "flag", TaskType.Binary)]
    [InlineData("x,z,kind\n1.5,2,red\n2.5,3,green\n3.5,4,blue\n", "kind", TaskType.Multiclass)]
    public void Task_IsGuessedWhenNoneIsNamed(string csv, string task, TaskType type)
    {
        ModelDescription model = Init(_folder.Write("x.csv", csv));

        Assert.Equal((task, type), (model.Tasks[0].Name, model.Tasks[0].Type));
        Assert.Contains("This was guessed", File.ReadAllText(Model), StringComparison.Ordinal);
    }

    [Fact]
    public void Result_AsJson_NamesWhatWasDone()
    {
        string data = _folder.Write("x.csv", "a,b,y\n1,x,0\n2,x,1\n");

        ToolResult result = ToolProcess.RunHere("init", data, "--to", Model, "--output", "json");

        using JsonDocument document = JsonDocument.Parse(result.Output);
        Assert.Equal(Model, document.RootElement.GetProperty("model").GetString());
        Assert.Equal("b", document.RootElement.GetProperty("left_out")[0].GetString());
    }

    [Fact]
    public void ExistingFile_IsKeptUnlessForced()
    {
        string data = _folder.Write("x.csv", "a,y\n1,0\n2,1\n");
        File.WriteAllText(Model, "mine");

        ToolResult refused = ToolProcess.RunHere("init", data, "--to", Model);

        Assert.Equal(2, refused.ExitCode);
        Assert.Equal("mine", File.ReadAllText(Model));
        Assert.Equal(0, ToolProcess.RunHere("init", data, "--to", Model, "--force").ExitCode);
        Assert.NotEqual("mine", File.ReadAllText(Model));
    }

    [Theory]
    [InlineData("", "empty")]
    [InlineData("a,y\n", "no rows")]
    [InlineData("a,y\n1,0,3\n", "3 fields")]
    [InlineData("y\n0\n1\n", "no column that could be a feature")]
    [InlineData("a,y\nx,1\nx,1\n", "label")]
    public void UselessFile_IsRefusedWithItsReason(string csv, string reason)
    {
        ToolResult result = ToolProcess.RunHere("init", _folder.Write("x.csv", csv), "--to", Model);

        Assert.Equal(2, result.ExitCode);
        Assert.Contains(reason, result.Error, StringComparison.Ordinal);
        Assert.False(File.Exists(Model));
    }

    [Fact]
    public void TwoColumnsOfOneName_AreRefused()
    {
        ToolResult result = ToolProcess.RunHere("init", _folder.Write("x.csv", "a,a\n1,2\n"), "--header", "true", "--to", Model);

        Assert.Equal(2, result.ExitCode);
        Assert.Contains("same name", result.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("nope", "did you mean")]
    [InlineData("name:ordinal", "not a type")]
    [InlineData("many", "too many for classes")]
    [InlineData("many:binary", "which one counts as 1")]
    [InlineData("many:regression", "holds texts")]
    [InlineData("name=zzz", "no value \"zzz\"")]
    public void WrongTask_IsRefusedWithItsReason(string task, string reason)
    {
        StringBuilder csv = new("node,name,many\n");
        for (int i = 0; i < 120; i++)
            csv.AppendLine(CultureInfo.InvariantCulture, $"{i % 7},{(i % 2 == 0 ? "a" : "b")},text {i % 60}");

        ToolResult result = ToolProcess.RunHere("init", _folder.Write("x.csv", csv.ToString()), "--to", Model, "--task", task);

        Assert.Equal(2, result.ExitCode);
        Assert.Contains(reason, result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Header_LooksLikeNamesOnlyWhenNothingIsANumber()
    {
        Assert.True(TextLayout.LooksLikeNames(["age", "y"]));
        Assert.False(TextLayout.LooksLikeNames(["age", "3"]));
        Assert.False(TextLayout.LooksLikeNames(["age", "age"]));
        Assert.False(TextLayout.LooksLikeNames(["age", ""]));
        Assert.False(TextLayout.LooksLikeNames(["age", "?"]));
    }

    private ModelDescription Init(string data, params string[] arguments)
    {
        ToolResult result = ToolProcess.RunHere(["init", data, "--to", Model, .. arguments]);
        Assert.True(result.ExitCode == 0, result.Error);
        return DescriptionJson.Load(Model);
    }
}
