using System.Text.Json.Nodes;
using CudaMoE.Description;

namespace CudaMoE.Cli.Tests;

public sealed class ModelFileTests : IDisposable
{
    private const string Text =
        """
        {
          // comments stay legal
          "name": "m",
          "features": [{ "name": "age", "type": "dense" }, { "name": "x", "type": "dense" }],
          "tasks": [{ "name": "y", "type": "binary" }],
          "architecture": { "type": "shared_bottom", "bottom": [4] },
        }
        """;

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Load_Overrides_WinOverTheFile()
    {
        ModelDescription model = Load(
            new("training.epochs", "7"),
            new("training.optimizer.learning_rate", "0.5"),
            new("features.age.transform", "log"),
            new("tasks[0].weight", "2"),
            new("architecture.bottom", "[8, 4]"));

        Assert.Equal(7, model.Training.Epochs);
        Assert.Equal(0.5f, model.Training.Optimizer.LearningRate);
        Assert.Equal(DenseTransform.Log, model.Features[0].Transform);
        Assert.Equal(2, model.Tasks[0].Weight);
        Assert.Equal([8, 4], model.Architecture.Bottom);
    }

    [Theory]
    [InlineData("training.epocs", "3", "epochs")]
    [InlineData("training.epochs", "zero", "zero")]
    [InlineData("training.batch_size", "0", "batch_size")]
    public void Load_WrongOverride_IsADescriptionErrorThatNamesIt(string key, string value, string named)
    {
        DescriptionException error = Assert.Throws<DescriptionException>(() => Load(new KeyValuePair<string, string>(key, value)));

        Assert.Contains(named, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("features.height.transform")]
    [InlineData("features[7].transform")]
    [InlineData("name.x.y")]
    public void Load_OverrideOfNoPlace_IsAUsageError(string key) =>
        Assert.Contains(key, Assert.Throws<UsageException>(() => Load(new KeyValuePair<string, string>(key, "1"))).Message, StringComparison.Ordinal);

    [Fact]
    public void Load_BrokenFileWithOverrides_NamesTheLine()
    {
        string path = _folder.Write("broken.json", "{\n\"name\": \"m\",\n oops }");

        DescriptionException error = Assert.Throws<DescriptionException>(() => ModelFile.Load(path, [new("training.epochs", "1")]));

        Assert.Contains("line 3", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Load_MissingFile_SuggestsInit() =>
        Assert.Contains("init", Assert.Throws<UsageException>(() => ModelFile.Load(Path.Combine(_folder.Path, "none.json"), [])).Hint, StringComparison.Ordinal);

    [Fact]
    public void Set_KeepsNullAndTexts()
    {
        JsonNode root = JsonNode.Parse("{\"a\": {\"b\": 1}}")!;

        ModelFile.Set(root, "a.b", "null");
        ModelFile.Set(root, "a.c", "some text");
        ModelFile.Set(root, "d.e", "true");

        Assert.Equal("{\"a\":{\"b\":null,\"c\":\"some text\"},\"d\":{\"e\":true}}", root.ToJsonString());
    }

    private ModelDescription Load(params KeyValuePair<string, string>[] overrides) => ModelFile.Load(_folder.Write("m.json", Text), overrides);
}
