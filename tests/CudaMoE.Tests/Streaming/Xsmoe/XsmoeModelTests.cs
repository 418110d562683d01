using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Streaming.Xsmoe;
using CudaMoE.Streaming;
using CudaMoE.Tensors;
using CudaMoE.Tests.Support;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Streaming.Xsmoe;

/// <summary>The model against its equations in double precision, and what must hold whatever the numbers are.</summary>
public sealed class XsmoeModelTests(ITestOutputHelper output)
{
    [Theory]
    [DeviceData(0f)]
    [DeviceData(0.3f)]
    public void LossAndGradients_RandomModel_MatchTheReferenceAndItsDifferences(string device, float dropout)
    {
        int seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        using Scene scene = new(device, seed, dropout);
        SequenceSet set = scene.Sequences(7);
        double[] popularity = set.Popularity(Scene.Items);

        // A full batch first, so that what it leaves behind would be seen.
        foreach (int[] chosen in (int[][])[[0, 1, 2, 3, 4, 5], [6, 2, 4]])
        {
            XsmoeBatch batch = XsmoeBatch.ForTraining(set, chosen, scene.Shape.History, popularity, scene.Model.ScoreStride);
            double loss = scene.Model.Loss(batch, step: 3);
            Assert.Equal(scene.Reference().Loss(set, chosen, popularity, 3), loss, tolerance: 1e-4);
            scene.Model.Backward(batch);
            scene.CheckGradients(parameters => scene.Reference(parameters).Loss(set, chosen, popularity, 3), device == TestDevices.Simt ? 2 : 6);
        }
    }

    [Theory]
    [DeviceData]
    public void Score_AllItems_AreTheReferences(string device)
    {
        int seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        using Scene scene = new(device, seed, dropout: 0.2f);
        SequenceSet set = scene.Sequences(3);
        scene.Model.BuildTable(Scene.Items);
        float[] scores = new float[set.Count * (Scene.Items + 1)];
        scene.Model.Score(XsmoeBatch.ForRanking(set, [.. Enumerable.Range(0, set.Count)], scene.Shape.History), scores);
        XsmoeReference reference = scene.Reference();
        for (int s = 0; s < set.Count; s++)
        {
            for (int item = 1; item <= Scene.Items; item++)
            {
                double expected = reference.Score(set.Items(s).ToArray(), item);
                Assert.Equal(expected, scores[(s * (Scene.Items + 1)) + item], tolerance: 1e-4 * (1 + Math.Abs(expected)));
            }
        }
    }

    [Theory]
    [DeviceData]
    public void Gates_OfEveryItem_SumToOne(string device)
    {
        using Scene scene = new(device, Environment.TickCount, dropout: 0);
        scene.Model.EncodeItems([1, 2, 3, 4, 5]);
        for (int side = 0; side < scene.Shape.Sides.Count; side++)
        {
            foreach (SideLayer layer in scene.Model.Layers(side))
            {
                float[] gates = scene.Read(layer.Gates, 5);
                for (int row = 0; row < 5; row++)
                    Assert.Equal(1, gates.Skip(row * (layer.Experts.Count + 1)).Take(layer.Experts.Count + 1).Sum(), 5);
            }
        }
    }

    [Theory]
    [DeviceData]
    public void Update_ManySteps_LeavesFrozenExpertsAndTheirGradientsBitForBit(string device)
    {
        int seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        using Scene scene = new(device, seed, dropout: 0.1f);
        SequenceSet set = scene.Sequences(6);
        double[] popularity = set.Popularity(Scene.Items);
        Dictionary<string, float[]> before = scene.Model.Parameters.ToDictionary(p => p.Name, scene.Model.Read);
        for (int step = 1; step <= 4; step++)
        {
            XsmoeBatch batch = XsmoeBatch.ForTraining(set, [0, 1, 2, 3, 4, 5], scene.Shape.History, popularity, scene.Model.ScoreStride);
            scene.Model.Loss(batch, step);
            scene.Model.Backward(batch);
            scene.Model.Update(0.01f, step);
        }

        int frozen = 0;
        foreach (Parameter parameter in scene.Model.Parameters)
        {
            float[] now = scene.Model.Read(parameter);
            if (scene.IsFrozen(parameter.Name))
            {
                frozen++;
                Assert.Equal(before[parameter.Name], now);
                Assert.All(scene.Read(parameter.Gradient, parameter.Count), value => Assert.Equal(0, value));
                Assert.All(scene.Read(parameter.State1, parameter.Count), value => Assert.Equal(0, value));
            }
            else
            {
                Assert.NotEqual(before[parameter.Name], now);
            }
        }

        Assert.Equal(6, frozen);
    }

    [Fact]
    public void Training_AnyNumberOfThreads_GivesTheSameBits()
    {
        int seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        Dictionary<string, float[]>[] ends = [.. ((string[])["cpu:threads=1", "cpu:threads=2", "cpu:threads=3"]).Select(device =>
        {
            using Scene scene = new(device, seed, dropout: 0.1f);
            SequenceSet set = scene.Sequences(6);
            double[] popularity = set.Popularity(Scene.Items);
            for (int step = 1; step <= 3; step++)
            {
                XsmoeBatch batch = XsmoeBatch.ForTraining(set, [5, 1, 2, 3, 4, 0], scene.Shape.History, popularity, scene.Model.ScoreStride);
                scene.Model.Loss(batch, step);
                scene.Model.Backward(batch);
                scene.Model.Update(0.01f, step);
            }

            return scene.Model.Parameters.ToDictionary(p => p.Name, scene.Model.Read);
        })];
        foreach ((string name, float[] values) in ends[0])
            Assert.All(ends, end => Assert.Equal(values, end[name]));
    }

    [Theory]
    [DeviceData]
    public void Batch_OneUserOrOneItem_HasTheLossZero(string device)
    {
        using Scene scene = new(device, Environment.TickCount, dropout: 0);
        SequenceSet one = SequenceSet.Of([new(0, 1), new(0, 2), new(0, 3)], scene.Shape.History);
        XsmoeBatch alone = XsmoeBatch.ForTraining(one, [0], scene.Shape.History, one.Popularity(Scene.Items), scene.Model.ScoreStride);
        Assert.Equal(0, scene.Model.Loss(alone, 1), 6);
        scene.Model.Backward(alone);

        SequenceSet same = SequenceSet.Of([new(0, 1), new(0, 1), new(1, 1), new(1, 1)], scene.Shape.History);
        XsmoeBatch single = XsmoeBatch.ForTraining(same, [0, 1], scene.Shape.History, same.Popularity(Scene.Items), scene.Model.ScoreStride);
        Assert.Equal(0, scene.Model.Loss(single, 1));
        scene.Model.Backward(single);
    }

    [Fact]
    public void States_NotFinite_AreRefusedByName()
    {
        FrozenStates states = new("text", new Broken(), [1], ["", "good", "bad"]);
        float[] gathered = new float[4];
        states.Gather([1], gathered);
        DataException error = Assert.Throws<DataException>(() => states.Gather([2], gathered));
        Assert.Contains("modality \"text\": item \"bad\" has NaN in the state of layer 1", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Dropout_Mask_DropsTheShareAndKeepsTheMean()
    {
        float[] mask = new float[100_001];
        Dropout.Fill(mask, 0.25f, 7, 2, 11);
        Assert.InRange(mask.Count(value => value == 0) / (double)mask.Length, 0.24, 0.26);
        Assert.InRange(mask.Average(), 0.98, 1.02);
        float[] other = new float[mask.Length];
        Dropout.Fill(other, 0.25f, 7, 2, 12);
        Assert.NotEqual(mask, other);
        Dropout.Fill(other, 0.25f, 7, 2, 11);
        Assert.Equal(mask, other);
    }

    private sealed class Broken : IItemStates
    {
        public int Layers => 2;

        public int Width => 2;

        public bool Read(string item, Span<float> states)
        {
            states.Fill(item == "bad" ? float.NaN : 1);
            states[..2].Fill(1);
            return true;
        }
    }

    /// <summary>A small model of two modalities with random parameters and states.</summary>
    private sealed class Scene : IDisposable
    {
        public const int Items = 14;
        private readonly Device _device;
        private readonly Random _random;
        private readonly List<float[]> _states = [];

        public Scene(string device, int seed, float dropout)
        {
            _device = Device.Open(device);
            _random = new(seed);
            Shape = new()
            {
                Sides =
                [
                    new() { Name = "image", Width = 6, Layers = [new(3, 2), new(1, 0)] },
                    new() { Name = "text", Width = 17, Layers = [new(2, 1), new(2, 0)] },
                ],
                Adapter = 3,
                Hidden = 8,
                Heads = 2,
                Blocks = 2,
                FeedForward = 10,
                History = 4,
                Dropout = dropout,
                MaxSequences = 6,
                TableItems = Items + 1,
                Seed = (ulong)(uint)seed,
            };
            for (int i = 0; i < Shape.Sides.Count * (Items + 1) * 3; i++)
                _states.Add([.. Enumerable.Range(0, Shape.Sides[i / ((Items + 1) * 3)].Width).Select(_ => Normal())]);
            string[] names = ["", .. Enumerable.Range(1, Items).Select(i => $"{i}")];
            Model = new(_device, Shape, [.. Shape.Sides.Select((side, s) => new FrozenStates(side.Name, new Given(this, s), [1, 2], names))]);
            foreach (Parameter parameter in Model.Parameters)
            {
                float scale = parameter.Name.Contains("router", StringComparison.Ordinal) ? 0.5f : 0.4f;
                float[] values = [.. Enumerable.Range(0, (int)parameter.Count).Select(_ => (parameter.Kind == ParameterKind.Norm ? 1 : 0) + (scale * Normal()))];
                Model.Stream.CopyToDevice<float>(values, parameter.Value);
            }

            Model.ParametersChanged();
        }

        public XsmoeShape Shape { get; }

        public XsmoeModel Model { get; }

        public void Dispose()
        {
            Model.Dispose();
            _device.Dispose();
        }

        /// <summary>Sequences of 2 to L + 1 items, some items twice in one, some in several.</summary>
        public SequenceSet Sequences(int count)
        {
            List<Interaction> rows = [];
            for (int user = 0; user < count; user++)
            {
                int length = user == 0 ? Shape.History + 1 : _random.Next(2, Shape.History + 4);
                rows.AddRange(Enumerable.Range(0, length).Select(_ => new Interaction(user, _random.Next(1, Items + 1))));
            }

            return SequenceSet.Of([.. rows], Shape.History);
        }

        public XsmoeReference Reference() => Reference(Values());

        public XsmoeReference Reference(IReadOnlyDictionary<string, double[]> parameters) => new(Shape, parameters, State);

        public bool IsFrozen(string name) => Shape.Sides.Any(side => side.Layers.Select((layer, j) =>
            Enumerable.Range(0, layer.Frozen).Any(k => name.StartsWith($"{side.Name}.layers.{j}.experts.{k}.", StringComparison.Ordinal))).Any(frozen => frozen));

        public float[] Read(nint address, long count)
        {
            float[] values = new float[count];
            Model.Stream.CopyToHost<float>(address, values);
            return values;
        }

        public float[] Read(Slot slot, int rows) => [.. Enumerable.Range(0, rows).SelectMany(row => Read(slot.Pointer + (nint)(row * slot.RowStride * sizeof(float)), slot.Columns))];

        /// <summary>
        /// Some elements of each parameter's gradient lie between the reference's slopes to the left and to the right, which are the same but where a kink of a ReLU is near. What f32 may lose depends on the
        /// draw: it is taken from how far the reference's slope moves when all parameters move by a millionth of themselves, about what the rounding of some ten operations in a row does.
        /// </summary>
        public void CheckGradients(Func<IReadOnlyDictionary<string, double[]>, double> loss, int samples)
        {
            Dictionary<string, double[]> values = Values();
            Dictionary<string, double[]> moved = values.ToDictionary(entry => entry.Key, entry => entry.Value.Select(value => value * (1 + (1e-6 * Normal()))).ToArray());
            double middle = loss(values), movedMiddle = loss(moved);
            foreach (Parameter parameter in Model.Parameters)
            {
                if (IsFrozen(parameter.Name))
                    continue;
                float[] gradient = Read(parameter.Gradient, parameter.Count);
                (int Index, double Left, double Right, double Moved)[] slopes =
                [
                    .. Enumerable.Range(0, samples).Select(_ => _random.Next(gradient.Length)).Select(i =>
                    {
                        (double left, double right) = Slopes(loss, values, middle, parameter.Name, i);
                        (double movedLeft, double movedRight) = Slopes(loss, moved, movedMiddle, parameter.Name, i);
                        return (i, Math.Min(left, right), Math.Max(left, right), Math.Max(Math.Abs(left - movedLeft), Math.Abs(right - movedRight)));
                    }),
                ];
                double tolerance = 1e-5 + (1e-4 * gradient.Max(Math.Abs)) + (10 * slopes.Max(slope => slope.Moved));
                foreach ((int i, double left, double right, _) in slopes)
                    Assert.True(gradient[i] >= left - tolerance && gradient[i] <= right + tolerance, $"{parameter}[{i}]: {gradient[i]}, differences {left} and {right}, tolerance {tolerance}");
            }
        }

        private static (double Left, double Right) Slopes(Func<IReadOnlyDictionary<string, double[]>, double> loss, Dictionary<string, double[]> values, double middle, string name, int i)
        {
            const double step = 1e-6;
            double[] at = values[name];
            double value = at[i];
            at[i] = value + step;
            double right = (loss(values) - middle) / step;
            at[i] = value - step;
            double left = (middle - loss(values)) / step;
            at[i] = value;
            return (left, right);
        }

        private Dictionary<string, double[]> Values() =>
            Model.Parameters.ToDictionary(p => p.Name, p => Model.Read(p).Select(value => (double)value).ToArray());

        private float[] State(int side, int item, int layer) => _states[(((side * (Items + 1)) + item) * 3) + layer];

        private float Normal() => (float)(Math.Sqrt(-2 * Math.Log(1 - _random.NextDouble())) * Math.Cos(2 * Math.PI * _random.NextDouble()));

        private sealed class Given(Scene scene, int side) : IItemStates
        {
            public int Layers => 3;

            public int Width => scene.Shape.Sides[side].Width;

            public bool Read(string item, Span<float> states)
            {
                for (int layer = 0; layer < 3; layer++)
                    scene.State(side, int.Parse(item, System.Globalization.CultureInfo.InvariantCulture), layer).CopyTo(states[(layer * Width)..]);
                return true;
            }
        }
    }
}
