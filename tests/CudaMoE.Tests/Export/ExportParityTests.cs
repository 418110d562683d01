using System.Text.Json;
using CudaMoE.Description;
using CudaMoE.Export;
using CudaMoE.Tests.Support;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Export;

/// <summary>Exported models of every family, run by an interpreter in double precision, give what the engine gives for the same rows of texts.</summary>
public sealed class ExportParityTests(ITestOutputHelper output) : IDisposable
{
    /// <summary>Bound of the difference of logits, relative above 1: the engine's f32 sums.</summary>
    private const double Tolerance = 2e-5;

    /// <summary>Rows of a sparse gate whose last chosen and first other expert are nearer than this may be decided otherwise in f32.</summary>
    private const double Tie = 1e-4;

    private static readonly IReadOnlyList<IReadOnlyList<int>> Levels = [[7], [6, 5], [4]];

    private static readonly ExpertsDescription Flat = new() { Count = 4, Layers = [7, 5] };

    private readonly TemporaryFolder _folder = new();

    private static readonly Dictionary<string, ArchitectureDescription> Architectures = new()
    {
        ["single task"] = new() { Type = ModelType.SingleTask, Bottom = [8, 5] },
        ["single task without layers"] = new() { Type = ModelType.SingleTask },
        ["shared bottom"] = new() { Type = ModelType.SharedBottom, Bottom = [9, 6] },
        ["mmoe"] = new() { Type = ModelType.Mmoe, Experts = Flat },
        ["mmoe, one expert"] = new() { Type = ModelType.Mmoe, Experts = new() { Count = 1, Layers = [6, 4, 3] } },
        ["omoe"] = new() { Type = ModelType.Mmoe, Experts = Flat, Gate = new() { Sharing = GateSharing.Shared, Bias = false } },
        ["mmoe, sigmoid"] = new() { Type = ModelType.Mmoe, Experts = Flat, Gate = new() { Score = ScoreMode.Sigmoid } },
        ["mmoe, sigmoid, renormalised"] = new() { Type = ModelType.Mmoe, Experts = Flat, Gate = new() { Score = ScoreMode.Sigmoid, Renormalize = true } },
        ["top 2"] = new() { Type = ModelType.Mmoe, Experts = Flat, Gate = new() { TopK = 2 } },
        ["top 3, renormalised"] = new() { Type = ModelType.Mmoe, Experts = Flat, Gate = new() { TopK = 3, Renormalize = true } },
        ["top 2, softmax over the chosen, shared"] = new() { Type = ModelType.Mmoe, Experts = Flat, Gate = new() { TopK = 2, Score = ScoreMode.TopkSoftmax, Sharing = GateSharing.Shared } },
        ["top 2, sigmoid"] = new() { Type = ModelType.Mmoe, Experts = Flat, Gate = new() { TopK = 2, Score = ScoreMode.Sigmoid } },
        ["top 2, sigmoid, renormalised"] = new() { Type = ModelType.Mmoe, Experts = Flat, Gate = new() { TopK = 2, Score = ScoreMode.Sigmoid, Renormalize = true } },
        ["top 2, noisy"] = new() { Type = ModelType.Mmoe, Experts = Flat, Gate = new() { TopK = 2, Score = ScoreMode.Noisy } },
        ["top 1, noisy, no bias"] = new() { Type = ModelType.Mmoe, Experts = Flat, Gate = new() { TopK = 1, Score = ScoreMode.Noisy, Bias = false } },
        ["top 2, capacity for all"] = new() { Type = ModelType.Mmoe, Experts = Flat, Gate = new() { TopK = 2, CapacityFactor = 100 } },
        ["ml-mmoe"] = new() { Type = ModelType.MlMmoe, Experts = new() { Count = 3, Levels = Levels } },
        ["ml-mmoe, shared gate"] = new() { Type = ModelType.MlMmoe, Experts = new() { Count = 3, Levels = [[6], [5]] }, Gate = new() { Sharing = GateSharing.Shared, Bias = false } },
        ["cgc"] = new() { Type = ModelType.Cgc, Experts = new() { PerTask = 2, Shared = 3, Layers = [6, 5] } },
        ["cgc, no bias"] = new() { Type = ModelType.Cgc, Experts = new() { Shared = 1, Layers = [6] }, Gate = new() { Bias = false } },
        ["ple"] = new() { Type = ModelType.Ple, Experts = new() { PerTask = 2, Shared = 1, Levels = Levels } },
        ["ple, gates on the input"] = new() { Type = ModelType.Ple, Experts = new() { PerTask = 1, Shared = 2, Levels = Levels }, Gate = new() { Input = GateInput.Trunk } },
        ["ple, no bias"] = new() { Type = ModelType.Ple, Experts = new() { PerTask = 1, Shared = 1, Levels = Levels }, Gate = new() { Bias = false } },
        ["adatt-sp"] = new() { Type = ModelType.Adatt, Experts = new() { Levels = Levels } },
        ["adatt"] = new() { Type = ModelType.Adatt, Experts = new() { PerTask = 2, Shared = 3, Levels = Levels } },
        ["adatt, unit residual"] = new() { Type = ModelType.Adatt, Experts = new() { PerTask = 2, Shared = 1, Levels = Levels, Native = NativeResidual.Unit }, Gate = new() { Bias = false } },
        ["adatt, no residual, gates on the input"] = new() { Type = ModelType.Adatt, Experts = new() { PerTask = 2, Levels = Levels, Native = NativeResidual.None }, Gate = new() { Input = GateInput.Trunk } },
        ["aitm"] = new() { Type = ModelType.SingleTask, Bottom = [8, 5], Transfer = new() { Penalty = 0 } },
        ["mmoe, transfer over a chain of two"] = new() { Type = ModelType.Mmoe, Experts = Flat, Transfer = new() { Penalty = 0, Chain = ["spent", "click"] } },
        ["top 2, transfer"] = new() { Type = ModelType.Mmoe, Experts = Flat, Gate = new() { TopK = 2 }, Transfer = new() { Penalty = 0 } },
        ["ple, transfer"] = new() { Type = ModelType.Ple, Experts = new() { Shared = 1, Levels = Levels }, Transfer = new() { Penalty = 0 } },
        ["stem"] = new() { Type = ModelType.Stem, Experts = new() { PerTask = 2, Shared = 3, Layers = [6, 5] } },
        ["stem, one expert each, no bias"] = new() { Type = ModelType.Stem, Experts = new() { Shared = 1, Layers = [6] }, Gate = new() { Bias = false } },
        ["stem, transfer"] = new() { Type = ModelType.Stem, Experts = new() { Shared = 1, Layers = [6, 5] }, Transfer = new() { Penalty = 0 } },
        ["cross-stitch"] = new() { Type = ModelType.CrossStitch, Experts = new() { Levels = Levels }, StitchOwnWeight = null },
    };

    public static TheoryData<string> Names { get; } = [.. Architectures.Keys];

    public void Dispose() => _folder.Dispose();

    [Theory]
    [DeviceMemberData(nameof(Names))]
    public void Export_RandomModel_GivesTheEnginesOutputs(string device, string name)
    {
        int seed = Random.Shared.Next();
        Random random = new(seed);
        ArchitectureDescription architecture = Vary(Architectures[name], random);
        bool mixed = architecture.Transfer is { Chain.Count: > 0 };
        IReadOnlyList<TaskDescription> tasks = (mixed ? 2 : random.Next(3)) switch { 0 => ExportRows.Binary, 1 => ExportRows.Chain, _ => ExportRows.Mixed };
        OnnxExportOptions options = new() { Gates = HasGates(architecture), Texts = random.Next(2) == 0, ExternalData = random.Next(2) == 0 };
        output.WriteLine($"seed {seed}: {architecture.Activation}, norm {architecture.LayerNorm}, projection {architecture.Projection}, tables {architecture.EmbeddingPrecision}, first task {tasks[0].Name}, {options}");
        using ExportScenario scenario = new(_folder, architecture, tasks, random, device: device);

        OnnxExportResult result = scenario.Export(options);

        OnnxModel model = new(result.File);
        IReadOnlyDictionary<string, OnnxArray> values = OnnxInterpreter.Run(model, ExportClient.Inputs(result.Schema, scenario.Rows, random.Next(3)));
        CheckSignature(model, result.Schema, values);
        bool[] decided = Decided(model, values, scenario.Rows.Length - 1);
        for (int t = 0; t < tasks.Count; t++)
            CheckTask(scenario, t, values, decided);
        if (options.Gates)
            CheckGates(scenario, values, result.Schema, decided);
    }

    /// <summary>Ids that are not rows of a table are the unknown value, whatever the encoding; -1 does not count from the end.</summary>
    [Fact]
    public void Run_IdsOutsideOfTheirTables_AreUnknown()
    {
        Random random = new(3);
        using ExportScenario scenario = new(_folder, Architectures["shared bottom"], ExportRows.Binary, random, rows: 3);
        OnnxExportResult result = scenario.Export();
        OnnxModel model = new(result.File);
        Dictionary<string, OnnxArray> inputs = ExportClient.Inputs(result.Schema, scenario.Rows, extraPlaces: 0);
        foreach (ExportInput input in result.Schema.Inputs.Where(i => i.Feature == FeatureType.Categorical))
            inputs[input.Name] = new(OnnxType.Int64, [3, 1], [-1, 1_000_000, 0]);
        // Rows that differ in such ids only must be equal.
        foreach ((string name, OnnxArray array) in inputs.ToArray())
        {
            if (model.Inputs.Single(i => i.Name == name).Type != OnnxType.Int64 || array.Shape[1] != 1)
                inputs[name] = new(array.Type, array.Shape, [.. Enumerable.Repeat(array.Values[..array.Shape[1]], 3).SelectMany(v => v)]);
        }

        IReadOnlyDictionary<string, OnnxArray> values = OnnxInterpreter.Run(model, inputs);

        foreach (ExportOutput logit in result.Schema.Outputs.Where(o => o.Kind == "logit"))
            Assert.Single(values[logit.Name].Values.Distinct());
    }

    /// <summary>As many samples as the caller has, none included.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(5)]
    public void Run_AnyNumberOfRows_GivesARowEach(int rows)
    {
        using ExportScenario scenario = new(_folder, Architectures["ple"], ExportRows.Mixed, new(9), rows: 8);
        OnnxExportResult result = scenario.Export();
        Dictionary<string, OnnxArray> inputs = ExportClient.Inputs(result.Schema, scenario.Rows, 1);
        foreach ((string name, OnnxArray array) in inputs.ToArray())
            inputs[name] = new(array.Type, [rows, array.Shape[1]], array.Values[..(rows * array.Shape[1])]);

        IReadOnlyDictionary<string, OnnxArray> values = OnnxInterpreter.Run(new(result.File), inputs);

        foreach (ExportOutput part in result.Schema.Outputs)
            Assert.Equal([rows, (int)part.Shape[1]], values[part.Name].Shape);
    }

    [Fact]
    public void Capacity_TheEngineDropsRows_TheModelDoesNotAndSaysSo()
    {
        ArchitectureDescription full = Architectures["top 2"] with { Projection = 8 };
        ArchitectureDescription tight = full with { Gate = full.Gate with { CapacityFactor = 0.25 } };
        using ExportScenario scenario = new(_folder, tight, ExportRows.Binary, new(4));
        Assert.True(scenario.Model.DroppedPairs.ToArray().Sum() > 0);

        OnnxExportResult result = scenario.Export(new() { Gates = true });

        Assert.Contains(result.Schema.Notices, notice => notice.Contains("capacity", StringComparison.Ordinal));
        OnnxArray weights = OnnxInterpreter.Run(new(result.File), ExportClient.Inputs(result.Schema, scenario.Rows, 0))["gates.0"];
        foreach (double[] row in weights.Values.Chunk(4))
            Assert.Equal(2, row.Count(w => w > 0));
    }

    private static ArchitectureDescription Vary(ArchitectureDescription architecture, Random random)
    {
        ActivationKind[] activations = Enum.GetValues<ActivationKind>();
        ActivationKind activation = activations[random.Next(activations.Length)];
        // The units of a stem model read their tables as they are.
        bool plain = architecture.Type == ModelType.Stem;
        return architecture with
        {
            Activation = activation,
            ActivationSlope = activation == ActivationKind.LeakyRelu ? 0.2f : architecture.ActivationSlope,
            LayerNorm = !plain && random.Next(2) == 0,
            Projection = !plain && random.Next(2) == 0 ? 8 : null,
            Tower = random.Next(2) == 0 ? [6, 4] : [],
            EmbeddingPrecision = random.Next(3) == 0 ? Precision.Bf16 : Precision.F32,
        };
    }

    private static bool HasGates(ArchitectureDescription architecture) =>
        architecture.Type is not (ModelType.SingleTask or ModelType.SharedBottom or ModelType.CrossStitch);

    private static void CheckSignature(OnnxModel model, ExportSchema schema, IReadOnlyDictionary<string, OnnxArray> values)
    {
        Assert.Equal(schema.Inputs.Select(i => i.Name), model.Inputs.Select(i => i.Name));
        Assert.Equal(schema.Outputs.Select(o => o.Name), model.Outputs.Select(o => o.Name));
        Assert.Equal(schema.ToJson(), model.Metadata[ExportSchema.MetadataKey]);
        Assert.Equal(ExportSchema.CurrentVersion, JsonDocument.Parse(schema.ToJson()).RootElement.GetProperty("version").GetInt32());
        foreach ((ExportOutput part, OnnxSignature signature) in schema.Outputs.Zip(model.Outputs))
        {
            Assert.Equal(part.Shape.Select(size => size < 0 ? "batch" : $"{size}"), signature.Shape);
            Assert.Equal(part.Shape.Skip(1), values[part.Name].Shape.Skip(1).Select(size => (long)size));
        }
    }

    /// <summary>Rows whose chosen experts do not hang on the last bits of a logit.</summary>
    private static bool[] Decided(OnnxModel model, IReadOnlyDictionary<string, OnnxArray> values, int rows)
    {
        bool[] decided = [.. Enumerable.Repeat(true, rows)];
        foreach (OnnxNode node in model.Nodes.Where(n => n.Type == "TopK"))
        {
            OnnxArray scores = values[node.Inputs[0]];
            int k = values[node.Outputs[0]].Shape[^1];
            int gates = scores.Shape[1];
            foreach ((double[] row, int i) in scores.Values.Chunk(scores.Shape[2]).Select((row, i) => (row, i)))
            {
                double[] sorted = [.. row.OrderDescending()];
                if (sorted[k - 1] - sorted[k] < Tie)
                    decided[i / gates] = false;
            }
        }

        Assert.True(decided.Count(d => d) > rows / 2, "most rows must be compared");
        return decided;
    }

    private static void CheckTask(ExportScenario scenario, int task, IReadOnlyDictionary<string, OnnxArray> values, bool[] decided)
    {
        TaskDescription description = scenario.Description.Tasks[task];
        double[] logits = [.. scenario.Logits(task).Select(v => (double)v)];
        switch (description.Type)
        {
            case TaskType.Binary:
                Near(logits, values[$"{description.Name}.logit"], decided);
                Near([.. logits.Select(Sigmoid)], values[$"{description.Name}.probability"], decided);
                if (description.Given is not null)
                    Near([.. scenario.Logits(task, tower: true).Select(v => Sigmoid(v))], values[$"{description.Name}.conditional"], decided);
                break;
            case TaskType.Regression:
                Near([.. logits.Select(scenario.Encoders.Tasks[task].Restore)], values[$"{description.Name}.value"], decided);
                break;
            default:
                Near(logits, values[$"{description.Name}.logits"], decided);
                Near([.. logits.Chunk(4).SelectMany(Softmax)], values[$"{description.Name}.probabilities"], decided);
                break;
        }
    }

    /// <summary>Sums over the rows of the last level's gates, or for sparse gates how often each expert was chosen.</summary>
    private static void CheckGates(ExportScenario scenario, IReadOnlyDictionary<string, OnnxArray> values, ExportSchema schema, bool[] decided)
    {
        OnnxArray weights = values[schema.Outputs.Last(o => o.Kind == "gates").Name];
        int columns = weights.Shape[1] * weights.Shape[2];
        Assert.Equal((scenario.Model.GateCount, scenario.Model.ExpertCount), (weights.Shape[1], weights.Shape[2]));
        for (int i = 0; i < columns; i++)
        {
            IEnumerable<double> column = weights.Values.Chunk(columns).Select(row => row[i]);
            if (!scenario.Model.IsSparse)
                Assert.Equal(scenario.Model.GateSums[i], column.Sum(), 1e-3);
            else if (decided.All(d => d))
                Assert.Equal(scenario.Model.ExpertCounts[i], column.Count(w => w > 0));
        }
    }

    private static void Near(double[] expected, OnnxArray actual, bool[] decided)
    {
        Assert.Equal(expected.Length, actual.Count);
        int width = actual.Shape[1];
        for (int i = 0; i < expected.Length; i++)
        {
            if (decided[i / width])
                Assert.Equal(expected[i], actual.Values[i], Tolerance * Math.Max(1, Math.Abs(expected[i])));
        }
    }

    private static double Sigmoid(double x) => 1 / (1 + Math.Exp(-x));

    private static double[] Softmax(double[] x)
    {
        double sum = x.Sum(Math.Exp);
        return [.. x.Select(v => Math.Exp(v) / sum)];
    }
}
