using System.Xml.Linq;
using CudaMoE.Description;

namespace CudaMoE.Tests.Description;

/// <summary>Stream files: what is read, what is refused with which words, and the published schema.</summary>
public sealed class StreamDescriptionTests
{
    private const string UpdateVariable = "CUDAMOE_UPDATE_SCHEMA";

    private const string Good = """
        {
          "$schema": "stream.schema.json",
          "name": "shop", // a comment
          "data": { "log": ["log.csv.gz"], "windows": 5 },
          "items": { "file": "items.csv" },
          "modalities": [{ "name": "text", "source": "text", "columns": ["title"], "layers": 3 }],
          "model": { "layers": [1, 3] },
        }
        """;

    [Theory]
    [InlineData("streams/movielens-xsmoe.json")]
    [InlineData("streams/grocery-xsmoe.json")]
    public void Load_ShippedFile_IsValid(string file) => Assert.NotEmpty(StreamDescriptionJson.Load(Path.Combine(Samples.Repository, file)).Modalities);

    [Fact]
    public void Parse_File_FillsDefaultsAndMakesPathsAbsolute()
    {
        StreamDescription description = StreamDescriptionJson.Parse(Good, "/data");
        Assert.Equal(["/data/log.csv.gz"], description.Data.Log);
        Assert.Equal("/data/items.csv", description.Items!.File);
        Assert.Equal((256, 0.95f, 42UL), (description.Training.BatchSize, description.Training.LearningRateDecay, description.Training.Seed));
        Assert.Equal((64, 10, 0.1f), (description.Model.Adapter, description.Model.History, description.Model.Dropout));
        Assert.Equal((true, 0.1, RouterStart.Random), (description.Growth.Expand, description.Growth.PruneThreshold, description.Growth.RouterStart));

        string written = StreamDescriptionJson.Write(description);
        Assert.Equal(written, StreamDescriptionJson.Write(StreamDescriptionJson.Parse(written)));
    }

    [Theory]
    [InlineData("\"windows\": 5", "\"window\": 5", "line 4: data.window: unknown key; did you mean \"windows\"?")]
    [InlineData("\"windows\": 5", "\"windows\": 1", "line 4: data.windows is 1; it must be at least 2 and at most 1000")]
    [InlineData("\"windows\": 5", "\"validation_fraction\": 1", "data.validation_fraction is 1; it must be at least 0 and below 1")]
    [InlineData("[\"log.csv.gz\"]", "[]", "data.log is empty; it must name at least one file")]
    [InlineData("\"name\": \"text\"", "\"name\": \"Text\"", "modalities[0].name is \"Text\"; it must be 1 to 50 lower-case letters")]
    [InlineData("\"name\": \"text\"", "\"name\": \"user\"", "modalities[0].name is \"user\", which other parameters")]
    [InlineData("\"source\": \"text\"", "\"source\": \"txt\"", "it must be one of \"file\", \"text\", \"synthetic\", \"encoder\"; did you mean \"text\"?")]
    [InlineData("\"source\": \"text\"", "\"source\": \"file\"", "modalities[0].file is missing; the source file needs it")]
    [InlineData("\"columns\": [\"title\"]", "\"file\": \"x\"", "modalities[0].file has no effect; only the sources file and encoder have it; remove it")]
    [InlineData("\"columns\": [\"title\"]", "\"width\": 8", "modalities[0].columns is empty; the source text needs the columns")]
    [InlineData("\"items\": { \"file\": \"items.csv\" },", "", "modalities[0].columns needs the item table; give items.file")]
    [InlineData("\"layers\": 3", "\"layers\": 2", "modalities[0].layers is 2; model.layers goes up to 3")]
    [InlineData("\"layers\": [1, 3]", "\"layers\": []", "model.layers is empty; a ladder needs at least one layer")]
    [InlineData("\"layers\": [1, 3]", "\"layers\": [3, 3]", "model.layers[1] is 3, and the one before is 3; they must ascend")]
    [InlineData("\"layers\": [1, 3]", "\"layers\": [1], \"heads\": 3", "model.heads is 3; it must divide model.hidden, 128")]
    [InlineData("\"layers\": [1, 3]", "\"layers\": [1], \"hidden\": 600", "model.heads is 2; a head would have 300 columns")]
    [InlineData("\"layers\": [1, 3]", "\"layers\": [1], \"history\": 200", "training.batch_size is 256; with model.history 200 a batch has 51200 x 51456 scores")]
    [InlineData("\"layers\": [1, 3]", "\"layers\": [1], \"dropout\": 0.99", "model.dropout is 0.99; it must be at least 0 and at most 0.95")]
    public void Parse_BadValue_NamesPlaceValueAndRule(string from, string to, string message)
    {
        Assert.Contains(from, Good, StringComparison.Ordinal);
        DescriptionException error = Assert.Throws<DescriptionException>(() => StreamDescriptionJson.Parse(Good.Replace(from, to, StringComparison.Ordinal)));
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Parse_NoModalityOrTwoOfOneName_IsRefused()
    {
        int from = Good.IndexOf("[{", StringComparison.Ordinal), to = Good.IndexOf("}],", StringComparison.Ordinal) + 2;
        Assert.Contains("modalities is empty", Refused(Good[..from] + "[]" + Good[to..]), StringComparison.Ordinal);
        string one = Good[(from + 1)..(to - 1)];
        Assert.Contains("modalities[1].name is \"text\", which modalities[0].name is already", Refused($"{Good[..from]}[{one}, {one}]{Good[to..]}"), StringComparison.Ordinal);

        static string Refused(string text) => Assert.Throws<DescriptionException>(() => StreamDescriptionJson.Parse(text)).Message;
    }

    [Fact]
    public void PublishedSchema_IsCurrent()
    {
        string path = Path.Combine(Samples.Repository, "docs", "stream.schema.json");
        string exported = DescriptionSchema.ExportStream(XDocument.Load(Path.ChangeExtension(typeof(StreamDescription).Assembly.Location, ".xml")));
        if (Environment.GetEnvironmentVariable(UpdateVariable) is not null)
        {
            File.WriteAllText(path, exported);
            return;
        }

        Assert.True(File.ReadAllText(path) == exported, $"docs/stream.schema.json is not current; run this test once with {UpdateVariable}=1 and build again");
        Assert.Equal(exported, DescriptionSchema.PublishedStream);
    }
}
