using System.Text.Json.Nodes;
using System.Xml.Linq;
using CudaMoE.Description;

namespace CudaMoE.Tests.Description;

public sealed class DescriptionSchemaTests
{
    /// <summary>With this environment variable set the test writes the file instead of comparing it.</summary>
    private const string UpdateVariable = "CUDAMOE_UPDATE_SCHEMA";

    private static string Export() => DescriptionSchema.Export(XDocument.Load(Path.ChangeExtension(typeof(ModelDescription).Assembly.Location, ".xml")));

    [Fact]
    public void Published_IsCurrent()
    {
        string path = Path.Combine(Samples.Repository, "docs", "model.schema.json");
        string exported = Export();
        if (Environment.GetEnvironmentVariable(UpdateVariable) is not null)
        {
            File.WriteAllText(path, exported);
            return;
        }

        Assert.True(File.ReadAllText(path) == exported, $"docs/model.schema.json is not current; run this test once with {UpdateVariable}=1 and build again");
        Assert.Equal(exported, DescriptionSchema.Published);
    }

    [Fact]
    public void Export_SaysWhatTheReaderEnforces()
    {
        JsonNode schema = JsonNode.Parse(Export())!;
        Assert.False((bool)schema["additionalProperties"]!);
        Assert.Equal("string", (string)schema["properties"]!["$schema"]!["type"]!);
        Assert.Equal(["name", "features", "tasks", "architecture"], schema["required"]!.AsArray().Select(name => (string)name!));
        JsonNode gate = schema["properties"]!["architecture"]!["properties"]!["gate"]!;
        Assert.Equal(1, (int)gate["properties"]!["top_k"]!["minimum"]!);
        Assert.Equal(64, (int)gate["properties"]!["top_k"]!["maximum"]!);
        Assert.Equal(["softmax_topk", "topk_softmax", "sigmoid", "noisy"], gate["properties"]!["score"]!["enum"]!.AsArray().Select(name => (string)name!));
        Assert.Equal("softmax_topk", (string)gate["properties"]!["score"]!["default"]!);
        Assert.Equal(1, (int)schema["properties"]!["architecture"]!["properties"]!["bottom"]!["items"]!["minimum"]!);
        int described = 0;
        Walk(schema);
        Assert.True(described > 80);

        void Walk(JsonNode? node)
        {
            if (node is JsonArray array)
            {
                foreach (JsonNode? item in array)
                    Walk(item);
            }

            if (node is not JsonObject value)
                return;
            if (value["properties"] is JsonObject properties)
            {
                Assert.False((bool)value["additionalProperties"]!);
                foreach ((string name, JsonNode? property) in properties)
                {
                    Assert.True(name == "$schema" || property!["description"] is not null, $"{name} has no description");
                    described++;
                }
            }

            foreach ((string _, JsonNode? child) in value)
                Walk(child);
        }
    }
}
