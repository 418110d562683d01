using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Models;

/// <summary>Models of the fusion family that are the same function by construction, values worked out by hand, and numbers of parameters.</summary>
public sealed class FusionIdentityTests
{
    private static readonly IReadOnlyList<TaskDescription> Tasks = TestModels.BinaryTasks;

    private static readonly ArchitectureDescription Frame = new() { Type = ModelType.Adatt, Projection = 8, Tower = [4], Activation = ActivationKind.Silu };

    private static readonly IReadOnlyList<IReadOnlyList<int>> TwoLevels = [[7], [6, 5]];

    [Theory]
    [DeviceData]
    public void Ple_OneLevel_IsCgc(string device) => CheckSameBits(
        device,
        Frame with { Type = ModelType.Ple, Experts = new() { Levels = [[7, 5]], PerTask = 2, Shared = 3 } },
        Frame with { Type = ModelType.Cgc, Experts = new() { Layers = [7, 5], PerTask = 2, Shared = 3 } });

    [Theory]
    [DeviceData]
    public void Adatt_GatesOnTheTrunksInputAndNoNativeExperts_IsMultiLevelMmoe(string device) => CheckSameBits(
        device,
        Frame with { Experts = new() { Levels = TwoLevels, Shared = 1, Native = NativeResidual.None }, Gate = new() { Input = GateInput.Trunk } },
        Frame with { Type = ModelType.MlMmoe, Experts = new() { Levels = TwoLevels, Count = 4 } });

    [Theory]
    [DeviceData]
    public void Adatt_OneExpertAUnit_AddsItWithWeightOne(string device) => CheckSameBits(
        device,
        Frame with { Experts = new() { Levels = TwoLevels, Shared = 1 } },
        Frame with { Experts = new() { Levels = TwoLevels, Shared = 1, Native = NativeResidual.Unit } });

    [Theory]
    [DeviceData]
    public void Adatt_NoSharedExperts_IsAdattSp(string device) => CheckSameBits(
        device,
        Frame with { Experts = new() { Levels = TwoLevels, PerTask = 2, Shared = 0 } },
        Frame with { Experts = new() { Levels = TwoLevels, PerTask = 2 } });

    [Theory]
    [DeviceData]
    public void Adatt_LearnedWeightsOfOne_AreUnitWeights(string device) => CheckSame(
        device,
        Frame with { Experts = new() { Levels = TwoLevels, PerTask = 2, Shared = 1, Native = NativeResidual.Learned } },
        Frame with { Experts = new() { Levels = TwoLevels, PerTask = 2, Shared = 1, Native = NativeResidual.Unit } },
        (name, _) => name,
        set: (name, values) =>
        {
            if (name.Contains("native", StringComparison.Ordinal))
                Array.Fill(values, 1f);
        });

    [Theory]
    [DeviceData]
    public void MultiLevelMmoe_OneLevel_IsMmoe(string device) => CheckSame(
        device,
        Frame with { Type = ModelType.MlMmoe, Experts = new() { Levels = [[7, 5]], Count = 4 } },
        Frame with { Type = ModelType.Mmoe, Experts = new() { Layers = [7, 5], Count = 4 } },
        (name, _) => name.Replace("levels.0.", "", StringComparison.Ordinal));

    [Theory]
    [DeviceData]
    public void MultiLevelMmoe_OneLevelAndOneGate_IsMmoeWithASharedGate(string device) => CheckSame(
        device,
        Frame with { Type = ModelType.MlMmoe, Experts = new() { Levels = [[7, 5]], Count = 4 }, Gate = new() { Sharing = GateSharing.Shared } },
        Frame with { Type = ModelType.Mmoe, Experts = new() { Layers = [7, 5], Count = 4 }, Gate = new() { Sharing = GateSharing.Shared } },
        (name, _) => name.Replace("levels.0.", "", StringComparison.Ordinal));

    [Theory]
    [DeviceData]
    public void CrossStitch_IdentityMatrices_IsANetworkATask(string deviceName)
    {
        ArchitectureDescription separate = Frame with { Type = ModelType.SingleTask, Bottom = [7, 5] };
        ArchitectureDescription stitched = Frame with { Type = ModelType.CrossStitch, Experts = new() { Levels = [[7], [5]] }, StitchOwnWeight = 1 };
        using Pair pair = new(deviceName, stitched, separate);
        pair.Copy((name, values) => BottomParts(name, values));
        pair.CheckLogits(1e-6);
    }

    [Theory]
    [DeviceData]
    public void CrossStitch_EqualNetworksAndRowsThatSumToOne_IsASharedBottom(string deviceName)
    {
        ArchitectureDescription shared = Frame with { Type = ModelType.SharedBottom, Bottom = [7, 5] };
        ArchitectureDescription stitched = Frame with { Type = ModelType.CrossStitch, Experts = new() { Levels = [[7], [5]] }, StitchOwnWeight = 0.6 };
        using Pair pair = new(deviceName, stitched, shared, (name, values) =>
        {
            if (!name.Contains("experts", StringComparison.Ordinal))
                return;
            int part = values.Length / 3;
            values.AsSpan(0, part).CopyTo(values.AsSpan(part, part));
            values.AsSpan(0, part).CopyTo(values.AsSpan(2 * part, part));
        });
        pair.Copy((name, values) => name.StartsWith("levels.", StringComparison.Ordinal)
            ? name.Contains("stitch", StringComparison.Ordinal) ? [] : [($"bottom.layers.{name[7]}.{name[(name.LastIndexOf('.') + 1)..]}", values[..(values.Length / 3)])]
            : [(name, values)]);
        pair.CheckLogits(1e-6);
    }

    /// <summary>One level with two tasks and two experts a task, worked out from the equations.</summary>
    [Theory]
    [DeviceData]
    public void Adatt_SmallExample_GivesTheValuesWorkedOut(string deviceName)
    {
        ArchitectureDescription architecture = new()
        {
            Type = ModelType.Adatt,
            Experts = new() { Levels = [[2]], PerTask = 2 },
            Gate = new() { Bias = false },
        };
        IReadOnlyList<TaskDescription> tasks =
            [.. Enumerable.Range(0, 2).Select(t => new TaskDescription { Name = $"t{t}", Type = TaskType.Multiclass, Classes = ["a", "b"] })];
        BatchLayout layout = new([], DenseWidth: 2, Tasks: 2);
        using Device device = Device.Open(deviceName);
        using MultiTaskModel model = new(device, TestModels.Describe(architecture, tasks), layout, [2, 2], 1, training: false);
        Dictionary<string, float[]> values = new()
        {
            ["levels.0.experts.layers.0.weight"] = [1, 0, 0, 1, 0.5f, -0.5f, 1, 1, -1, 0.5f, 0.25f, 0.75f, 2, 1, 0, -1],
            ["levels.0.experts.layers.0.bias"] = [0, 0, 0.1f, 0, 0.2f, 0.2f, 0, 0.3f],
            ["levels.0.gate.weight"] = [0.2f, 0.1f, -0.3f, 0.4f, 0, 0.5f, 0.1f, -0.2f, 0.3f, 0.3f, 0.1f, 0, -0.2f, 0.2f, 0, 0],
            ["levels.0.native.weight"] = [0.6f, -0.2f, 0.1f, 0.7f],
        };
        foreach (Parameter parameter in model.Parameters)
        {
            // The towers pass on what they read.
            float[] value = values.GetValueOrDefault(parameter.Name) ?? (parameter.Name.EndsWith("weight", StringComparison.Ordinal) ? [1, 0, 0, 1] : [0, 0]);
            model.Stream.CopyToDevice<float>(value, parameter.Value);
        }

        model.ParametersChanged();
        using Batch batch = new(layout, 1) { Rows = 1 };
        batch.Dense[0] = 1;
        batch.Dense[1] = -0.5f;
        model.Forward(batch);
        float[] y = [.. TestDevices.Read(model, model.Logits(0)), .. TestDevices.Read(model, model.Logits(1))];
        foreach ((double expected, float actual) in new[] { 1.361253, 0.255254, 1.948550, 0.918850 }.Zip(y))
            Assert.Equal(expected, actual, 1e-5);
        double[] gates = [0.308296, 0.160945, 0.206657, 0.324103, 0.289892, 0.275753, 0.184843, 0.249512];
        foreach ((double expected, double actual) in gates.Zip(model.GateSums.ToArray()))
            Assert.Equal(expected, actual, 1e-5);
    }

    /// <summary>482 inputs, three tasks, levels of 128 and 64, towers of 32: the sizes of the reference implementation.</summary>
    [Theory]
    [InlineData(ModelType.Adatt, 2, 0, 437_847)]
    [InlineData(ModelType.Adatt, 1, 3, 440_742)]
    [InlineData(ModelType.Adatt, 1, 1, 295_935)]
    [InlineData(ModelType.Ple, 1, 3, 437_061)]
    [InlineData(ModelType.MlMmoe, 6, 0, 452_901)]
    [InlineData(ModelType.Mmoe, 6, 0, 435_513)]
    [InlineData(ModelType.CrossStitch, 1, 0, 216_597)]
    [InlineData(ModelType.SharedBottom, 0, 0, 76_419)]
    public void Parameters_PublishedSetting_HaveTheNumberOfTheReference(ModelType type, int experts, int shared, long expected)
    {
        bool owned = type is ModelType.Adatt or ModelType.Ple;
        ArchitectureDescription architecture = new()
        {
            Type = type,
            Tower = [32],
            Bottom = type == ModelType.SharedBottom ? [128, 64] : [],
            Experts = type == ModelType.SharedBottom ? null : new()
            {
                PerTask = owned ? experts : null,
                Shared = owned ? shared : null,
                Count = type is ModelType.MlMmoe or ModelType.Mmoe ? experts : null,
                Layers = type == ModelType.Mmoe ? [128, 64] : [],
                Levels = type == ModelType.Mmoe ? [] : [[128], [64]],
            },
        };
        using Device device = Device.Open(TestDevices.Default);
        using MultiTaskModel model = new(device, TestModels.Describe(architecture, Tasks), new([], DenseWidth: 482, Tasks: 3), [1, 1, 1], 1, training: false);
        Assert.Equal(expected, model.Parameters.Sum(p => p.Count));
    }

    [Theory]
    [DeviceData(0.7)]
    [DeviceData((object?)null)]
    public void StitchWeights_Initial_AreAsDescribed(string deviceName, double? own)
    {
        using Device device = Device.Open(deviceName);
        ArchitectureDescription architecture = Frame with { Type = ModelType.CrossStitch, Experts = new() { Levels = [[4]] }, StitchOwnWeight = own };
        using MultiTaskModel model = new(device, TestModels.Describe(architecture, Tasks), TestModels.Layout, [1, 1, 1], 1, training: false);
        Parameter stitch = model.Parameters.Single(p => p.Name == "levels.0.stitch.weight");
        float[] values = TestDevices.Read(model, stitch);
        if (own is { } weight)
        {
            for (int i = 0; i < 9; i++)
                Assert.Equal(i % 4 == 0 ? weight : (1 - weight) / 2, values[i], 1e-6);
            return;
        }

        Assert.All(values, v => Assert.InRange(Math.Abs(v), 0, 1 / Math.Sqrt(3)));
        Assert.Equal(9, values.Distinct().Count());
    }

    private static void CheckSameBits(string deviceName, ArchitectureDescription left, ArchitectureDescription right)
    {
        using Pair pair = new(deviceName, left, right);
        pair.CheckLogits(0);
        pair.CheckGradients();
    }

    private static void CheckSame(string deviceName, ArchitectureDescription left, ArchitectureDescription right, Func<string, float[], string> rename, Action<string, float[]>? set = null)
    {
        using Pair pair = new(deviceName, left, right, set);
        pair.Copy((name, values) => set != null && name.Contains("native", StringComparison.Ordinal) ? [] : [(rename(name, values), values)]);
        pair.CheckLogits(2e-6);
    }

    /// <summary>Parameters of a cross-stitch network [3, ...] as those of three bottoms.</summary>
    private static IEnumerable<(string, float[])> BottomParts(string name, float[] values)
    {
        if (!name.StartsWith("levels.", StringComparison.Ordinal))
            return [(name, values)];
        if (name.Contains("stitch", StringComparison.Ordinal))
            return [];
        int part = values.Length / 3;
        string what = name[(name.LastIndexOf('.') + 1)..];
        return Tasks.Select((task, t) => ($"bottom.{task.Name}.layers.{name[7]}.{what}", values[(t * part)..((t + 1) * part)]));
    }

    /// <summary>Two models of one seed and a batch.</summary>
    private sealed class Pair : IDisposable
    {
        private readonly Device _device;
        private readonly MultiTaskModel _left;
        private readonly MultiTaskModel _right;
        private readonly Batch _batch;

        public Pair(string deviceName, ArchitectureDescription left, ArchitectureDescription right, Action<string, float[]>? set = null)
        {
            _device = Device.Open(deviceName);
            _left = Build(left);
            _right = Build(right);
            _batch = TestModels.RandomBatch(TestModels.Layout, Tasks, rows: 29, new Random(4));
            foreach (Parameter parameter in _left.Parameters)
            {
                float[] values = TestDevices.Read(_left, parameter);
                set?.Invoke(parameter.Name, values);
                _left.Stream.CopyToDevice<float>(values, parameter.Value);
            }

            _left.ParametersChanged();
        }

        /// <summary>Sets the right model's parameters from the left one's.</summary>
        public void Copy(Func<string, float[], IEnumerable<(string Name, float[] Values)>> map)
        {
            Dictionary<string, float[]> values = _left.Parameters.SelectMany(p => map(p.Name, TestDevices.Read(_left, p))).ToDictionary(p => p.Name, p => p.Values);
            foreach (Parameter parameter in _right.Parameters)
            {
                Assert.Equal(parameter.Count, values[parameter.Name].Length);
                _right.Stream.CopyToDevice<float>(values[parameter.Name], parameter.Value);
                values.Remove(parameter.Name);
            }

            Assert.Empty(values);
            _right.ParametersChanged();
        }

        public void CheckLogits(double tolerance)
        {
            foreach (MultiTaskModel model in (MultiTaskModel[])[_left, _right])
                model.Forward(_batch);
            for (int t = 0; t < Tasks.Count; t++)
            {
                float[] left = TestDevices.Read(_left, _left.Logits(t)), right = TestDevices.Read(_right, _right.Logits(t));
                for (int i = 0; i < left.Length; i++)
                    Assert.Equal(left[i], right[i], tolerance);
            }
        }

        /// <summary>The same parameters by name, with the same bits of their gradients.</summary>
        public void CheckGradients()
        {
            foreach (MultiTaskModel model in (MultiTaskModel[])[_left, _right])
            {
                model.Forward(_batch);
                model.ComputeLosses();
                model.BackwardTowers();
                model.BackwardTrunk([], gramIsFresh: false);
            }

            Assert.Equal(_left.Parameters.Select(p => p.ToString()), _right.Parameters.Select(p => p.ToString()));
            foreach ((Parameter left, Parameter right) in _left.Parameters.Zip(_right.Parameters).Where(p => p.First.Kind != ParameterKind.Embedding))
                Assert.Equal(TestDevices.Read(_left, left.Gradient, left.Count), TestDevices.Read(_right, right.Gradient, right.Count));
        }

        public void Dispose()
        {
            _batch.Dispose();
            _left.Dispose();
            _right.Dispose();
            _device.Dispose();
        }

        private MultiTaskModel Build(ArchitectureDescription architecture) =>
            new(_device, TestModels.Describe(architecture, Tasks), TestModels.Layout, TestModels.Outputs(Tasks), maxRows: 29, training: true);
    }
}
