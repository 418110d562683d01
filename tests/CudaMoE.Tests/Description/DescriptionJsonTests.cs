using System.Reflection;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using CudaMoE.Description;
using CudaMoE.Tests.Support;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Description;

public sealed class DescriptionJsonTests(ITestOutputHelper output)
{
    [Fact]
    public void Parse_FullFile_ReadsEveryPart()
    {
        ModelDescription model = DescriptionJson.Parse(Samples.FullJson);
        Assert.Equal("full", model.Name);
        Assert.Equal("\t", model.Data!.Format.Separator);
        Assert.Null(model.Data.Format.Quote);
        Assert.Equal(["?", "NA"], model.Data.Format.Missing);
        Assert.Equal(new ValidationSplit { From = SplitSource.Test, Fraction = 0.5, Seed = ulong.MaxValue }, model.Data.ValidationSplit);
        Assert.Equal("cache", model.Data.Cache);
        Assert.Equal(6, model.Features.Count);
        Assert.Equal(DenseTransform.MinMax, model.Features[0].Transform);
        Assert.Equal(
            new FeatureDescription
            {
                Name = "tags",
                Type = FeatureType.MultiHot,
                Dimension = 16,
                Encoding = CategoryEncoding.Hash,
                Buckets = 1000,
                Pooling = PoolingKind.Sum,
                MaxLength = 5,
                ValueSeparator = ";",
            },
            model.Features[4]);
        Assert.Equal(LabelTransform.Log, model.Tasks[1].Transform);
        Assert.Equal(["1"], model.Tasks[1].Mask!.In);
        Assert.Equal(ScoreMode.SoftmaxTopk, model.Architecture.Gate.Score);
        Assert.Equal(1.25, model.Architecture.Gate.CapacityFactor);
        Assert.Equal(Precision.Bf16, model.Architecture.Precision);
        Assert.Equal(0.2f, model.Architecture.ActivationSlope);
        Assert.Equal(0.9f, model.Training.Optimizer.Momentum);
        Assert.Equal(OptimizerType.RowwiseAdam, model.Training.EmbeddingOptimizer.Type);
        Assert.Equal(RepresentationPlace.TrunkInput, model.Training.Balancer.Place);
        Assert.Equal(HeadGradient.Scaled, model.Training.Balancer.Heads);
        Assert.Equal(1000, model.Training.CheckpointSteps);
    }

    [Fact]
    public void Parse_MissingKeys_TakeTheDefaultsOfTheRecords()
    {
        ModelDescription model = DescriptionJson.Parse(Samples.Small());
        Assert.Equal(new TrainingDescription(), model.Training);
        Assert.Equal(new FeatureDescription { Name = "age", Type = FeatureType.Dense }, model.Features[0]);
        Assert.Equal(new TaskDescription { Name = "income", Type = TaskType.Binary }, model.Tasks[0]);
        Assert.Equal(new GateDescription(), model.Architecture.Gate);
        Assert.Null(model.Data);

        ModelDescription partial = DescriptionJson.Parse(Samples.Small(
            training: "\"embedding_optimizer\": { \"type\": \"sgd\" }, \"balancer\": { \"type\": \"mgda\", \"every\": 2 }", data: "\"train\": [\"a.csv\"]"));
        Assert.Equal(new OptimizerDescription { Type = OptimizerType.Sgd }, partial.Training.EmbeddingOptimizer);
        Assert.Equal(new BalancerDescription { Type = BalancerType.Mgda, Every = 2 }, partial.Training.Balancer);
        Assert.Equal(new FileFormat().Quote, partial.Data!.Format.Quote);
        Assert.True(partial.Data.Format.Trim);
    }

    [Fact]
    public void Prototypes_CoverEveryRecord()
    {
        // Every record that can be reached has defaults to fill in, or the reader would fail on it.
        HashSet<Type> seen = [];
        Visit(typeof(ModelDescription));
        Assert.True(seen.Count >= 15);

        void Visit(Type type)
        {
            type = Nullable.GetUnderlyingType(type) ?? type;
            JsonTypeInfo contract = DescriptionContext.Contract(type);
            if (contract.Kind == JsonTypeInfoKind.Enumerable)
                Visit(contract.ElementType!);
            if (contract.Kind != JsonTypeInfoKind.Object || !seen.Add(type))
                return;
            foreach (JsonPropertyInfo property in contract.Properties)
            {
                if (!property.IsRequired)
                    DescriptionContext.DefaultOf(contract, property);
                Visit(property.PropertyType);
            }
        }
    }

    [Fact]
    public void NumberRange_IsOnEveryNumber()
    {
        foreach (Type type in typeof(ModelDescription).Assembly.GetTypes().Where(type => type.Namespace == "CudaMoE.Description" && type.Name.EndsWith("Description", StringComparison.Ordinal)))
        {
            foreach (PropertyInfo property in type.GetProperties().Where(property => property.CanWrite))
            {
                Type value = property.PropertyType.IsGenericType ? property.PropertyType.GetGenericArguments()[0] : property.PropertyType;
                if (value == typeof(int) || value == typeof(long) || value == typeof(float) || value == typeof(double))
                    Assert.True(property.GetCustomAttribute<NumberRangeAttribute>() is not null, $"{type.Name}.{property.Name} has no range");
            }
        }
    }

    [Fact]
    public void Write_ThenParse_GivesTheSame()
    {
        foreach (string json in new[] { Samples.FullJson, Samples.Small() })
        {
            ModelDescription first = DescriptionJson.Parse(json);
            string written = DescriptionJson.Write(first);
            Assert.Equal(written, DescriptionJson.Write(DescriptionJson.Parse(written)));
        }

        Assert.Contains("\"quote\": null", DescriptionJson.Write(DescriptionJson.Parse(Samples.FullJson)), StringComparison.Ordinal);
        Assert.Contains("\"multi_balance\"", DescriptionJson.Write(DescriptionJson.Parse(Samples.FullJson)), StringComparison.Ordinal);
    }

    [Fact]
    public void Load_RelativePaths_StartAtTheFile()
    {
        using TemporaryFolder folder = new();
        File.WriteAllText(folder["m.json"], Samples.Small(data: "\"train\": [\"../a.csv\", \"/data/b.csv\"], \"test\": [\"t/c.csv\"]"));
        DataDescription data = DescriptionJson.Load(folder["m.json"]).Data!;
        Assert.Equal([Path.Combine(Path.GetDirectoryName(folder.Root)!, "a.csv"), "/data/b.csv"], data.Train);
        Assert.Equal([folder["t/c.csv"]], data.Test);
        Assert.Equal(folder[".cudamoe-cache"], data.Cache);
        Assert.Equal(["../a.csv"], DescriptionJson.Parse(Samples.Small(data: "\"train\": [\"../a.csv\"]")).Data!.Train);
    }

    [Fact]
    public void Load_EveryModelOfTheRepository_IsValid()
    {
        string[] files = Directory.GetFiles(Path.Combine(Samples.Repository, "models"), "*.json");
        Assert.NotEmpty(files);
        foreach (string file in files)
            Assert.NotEmpty(DescriptionJson.Load(file).Tasks);
    }

    [Fact]
    public void Load_Errors_NameTheFileAndLine()
    {
        using TemporaryFolder folder = new();
        File.WriteAllText(folder["m.json"], Samples.Small(architecture: "\"typ\": \"mmoe\""));
        DescriptionException error = Assert.Throws<DescriptionException>(() => DescriptionJson.Load(folder["m.json"]));
        Assert.Equal($"{folder["m.json"]}: line 10: architecture.typ: unknown key; did you mean \"type\"?", error.Message);
        Assert.Equal(10, error.Line);
        Assert.Equal("architecture.typ", error.KeyPath);
        Assert.Contains("cannot be read", Assert.Throws<DescriptionException>(() => DescriptionJson.Load(folder["none.json"])).Message, StringComparison.Ordinal);
        Assert.Contains("cannot be read", Assert.Throws<DescriptionException>(() => DescriptionJson.Load(folder.Root)).Message, StringComparison.Ordinal);
    }

    public static TheoryData<string, string> BadTexts => new()
    {
        { "", "line 1: not valid JSON" },
        { "{", "not valid JSON" },
        { "{}x", "not valid JSON" },
        { "[]", "the description is a list; it must be an object" },
        { "null", "the description is null" },
        { "{}", "line 1: name: the key is missing; it is required" },
        { "{\"name\": \"\\ud800\"}", "not valid JSON" },
        { new string('[', 100), "not valid JSON" },
        { Samples.Small().Replace("\"features\"", "\"feature\"", StringComparison.Ordinal), "line 3: feature: unknown key; did you mean \"features\"?" },
        { Samples.Small(architecture: "\"type\": \"mmoe\", \"expert\": 3"), "line 10: architecture.expert: unknown key; did you mean \"experts\"?" },
        { Samples.Small(architecture: "\"type\": \"mmoe\", \"zzz\": 3"), "architecture.zzz: unknown key; known are type, projection, layer_norm" },
        { Samples.Small(architecture: "\"type\": \"mmoe\", \"$schema\": \"x\""), "architecture.$schema: unknown key" },
        { Samples.Small(feature: "\"name\": \"a\", \"type\": \"dense\", \"dimensions\": 3"), "line 4: features[0].dimensions: unknown key; did you mean \"dimension\"?" },
        { Samples.Small(feature: "\"name\": \"a\", \"type\": \"densee\""), "features[0].type is \"densee\"; it must be one of \"categorical\", \"multi_hot\", \"sequence\", \"dense\", \"vector\"; did you mean \"dense\"?" },
        { Samples.Small(feature: "\"name\": \"a\", \"type\": \"Dense\""), "did you mean \"dense\"?" },
        { Samples.Small(feature: "\"name\": \"a\", \"type\": 2"), "features[0].type is 2; it must be one of" },
        { Samples.Small(feature: "\"name\": \"a\", \"type\": null"), "features[0].type is null; it must have a value" },
        { Samples.Small(feature: "\"name\": \"a\""), "line 4: features[0].type: the key is missing" },
        { Samples.Small(feature: "\"name\": \"a\", \"type\": \"dense\", \"name\": \"b\""), "features[0].name: the key is given twice, first on line 4" },
        { Samples.Small(feature: "\"name\": 1, \"type\": \"dense\""), "features[0].name is 1; it must be a text in quotes" },
        { Samples.Small(training: "\"batch_size\": 1.5"), "line 13: training.batch_size is 1.5; it must be an integer" },
        { Samples.Small(training: "\"batch_size\": 1e3"), "training.batch_size is 1e3; it must be an integer" },
        { Samples.Small(training: "\"batch_size\": 99999999999"), "training.batch_size is 99999999999; it must be an integer from -2147483648" },
        { Samples.Small(training: "\"batch_size\": \"12\""), "training.batch_size is \"12\"; it must be a number" },
        { Samples.Small(training: "\"seed\": -1"), "training.seed is -1; it must be an integer from 0 to 2^64 - 1" },
        { Samples.Small(training: "\"clip_norm\": 1e39"), "training.clip_norm is 1e39; it must be at most 3.402823E+38" },
        { Samples.Small(training: "\"clip_norm\": true"), "training.clip_norm is true; it must be a number" },
        { Samples.Small(training: "\"balancer\": { \"times_tasks\": 1 }"), "training.balancer.times_tasks is 1; it must be true or false" },
        { Samples.Small(training: "\"balancer\": []"), "training.balancer is a list; it must be an object" },
        { Samples.Small(training: "\"optimizer\": { \"beta1\": 1 }"), "line 13: training.optimizer.beta1 is 1; it must be at least 0 and below 1" },
        { Samples.Small(architecture: "\"type\": \"shared_bottom\",\n \"bottom\": [8,\n 0]"), "line 12: architecture.bottom[1] is 0; it must be at least 1 and at most 65536" },
        { Samples.Small(architecture: "\"type\": \"shared_bottom\", \"bottom\": 8"), "architecture.bottom is 8; it must be a list" },
        { Samples.Small(architecture: "\"type\": \"shared_bottom\", \"bottom\": [null]"), "architecture.bottom[0] is null" },
        { Samples.Small(architecture: "\"type\": \"mmoe\""), "line 9: architecture.experts is missing" },
    };

    [Theory]
    [MemberData(nameof(BadTexts))]
    public void Parse_BadText_SaysWhereAndWhat(string json, string expected)
    {
        DescriptionException error = Assert.Throws<DescriptionException>(() => DescriptionJson.Parse(json));
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
        Assert.StartsWith("line ", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Parse_RandomMutations_GiveADescriptionOrADescriptionException()
    {
        int seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        Random random = new(seed);
        string compact = Samples.FullJson;
        string[] tokens = ["{", "}", "[", "]", ",", ":", "\"", "null", "true", "-1", "0", "1e999", "1.5", "99999999999999999999999", "\"\"", "\"name\"", "//", "\\ud800", "\0", "\u00e9", "[[[[[[[["];
        int valid = 0;
        for (int trial = 0; trial < 20_000; trial++)
        {
            StringBuilder text = new(compact);
            for (int change = random.Next(1, 4); change > 0; change--)
            {
                int at = random.Next(text.Length);
                int length = Math.Min(random.Next(1, 12), text.Length - at);
                switch (random.Next(4))
                {
                    case 0:
                        text.Remove(at, length);
                        break;
                    case 1:
                        text.Insert(at, tokens[random.Next(tokens.Length)]);
                        break;
                    case 2:
                        text[at] = (char)random.Next(1, 256);
                        break;
                    default:
                        text.Insert(at, compact.AsSpan(random.Next(compact.Length - 40), random.Next(1, 40)));
                        break;
                }
            }

            string mutated = text.ToString();
            try
            {
                DescriptionJson.Parse(mutated, "/base");
                valid++;
            }
            catch (DescriptionException error)
            {
                Assert.NotEmpty(error.Message);
            }
            catch (Exception error)
            {
                Assert.Fail($"{error}\n{mutated}");
            }
        }

        output.WriteLine($"{valid} of 20000 were still valid");
        Assert.InRange(valid, 1, 19_999);
    }

    [Fact]
    public void Parse_RandomValuesInPlaceOfAny_GiveADescriptionOrADescriptionException()
    {
        int seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        Random random = new(seed);
        string[] values = ["null", "true", "0", "-1", "1", "2147483647", "1e-30", "1e300", "\"\"", "\"a\"", "\"\\t\"", "\"x/y\"", "[]", "{}", "[1]", "[\"a\",\"a\"]", "{\"type\":\"sgd\"}"];
        JsonElement root = JsonDocument.Parse(DescriptionJson.Write(DescriptionJson.Parse(Samples.FullJson))).RootElement;
        for (int trial = 0; trial < 5000; trial++)
        {
            StringBuilder text = new();
            Copy(root, text, 0.03);
            try
            {
                DescriptionJson.Write(DescriptionJson.Parse(text.ToString()));
            }
            catch (DescriptionException)
            {
                // Refused, as it may be.
            }
            catch (Exception error)
            {
                Assert.Fail($"{error}\n{text}");
            }
        }

        void Copy(JsonElement element, StringBuilder text, double rate)
        {
            if (random.NextDouble() < rate)
            {
                text.Append(values[random.Next(values.Length)]);
                return;
            }

            switch (element.ValueKind)
            {
                case JsonValueKind.Object:
                    text.Append('{');
                    foreach (JsonProperty property in element.EnumerateObject())
                    {
                        text.Append('"').Append(property.Name).Append("\":");
                        Copy(property.Value, text, rate);
                        text.Append(',');
                    }

                    text.Append('}');
                    break;
                case JsonValueKind.Array:
                    text.Append('[');
                    foreach (JsonElement item in element.EnumerateArray())
                    {
                        Copy(item, text, rate);
                        text.Append(',');
                    }

                    text.Append(']');
                    break;
                default:
                    text.Append(element.GetRawText());
                    break;
            }
        }
    }
}
