using System.Text;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Graphs;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Tests.Models;
using CudaMoE.Tests.Support;
using CudaMoE.Training;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Training;

/// <summary>MGOE from a log to a trained model.</summary>
public sealed class MgoeTrainingTests(ITestOutputHelper output) : IDisposable
{
    private const int Groups = 3;
    private const int Users = 120;
    private const int Items = 60;
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    /// <summary>Users of the test rows are in no training row: only the graph knows which items they like.</summary>
    [Theory]
    [InlineData(MacroTables.PerTask, MacroAttention.OverNeighbours, 0.95, 1)]
    [InlineData(MacroTables.Shared, MacroAttention.Degenerate, 0.95, 1)]
    [InlineData(MacroTables.None, MacroAttention.OverNeighbours, 0.3, 0.7)]
    public void Train_UsersWhomOnlyTheGraphKnows_ArePredicted(MacroTables tables, MacroAttention attention, double least, double most)
    {
        ModelDescription description = Prepare(tables, attention, new() { BatchSize = 64, Epochs = 25, Seed = 2, Optimizer = new() { LearningRate = 0.01f } });
        TrainingResult result = Trainer.Train(description, _folder.Root, TrainingFixture.Options(_folder.Root, TestDevices.Default));
        double auc = result.Test.Single(task => task.Task == "buy").Metrics.Single(metric => metric.Name == "auc").Value ?? 0;
        Assert.InRange(auc, least, most);
    }

    /// <summary>The checkpoint holds the macro weights: the graph is not needed again.</summary>
    [Theory]
    [DeviceData]
    public void Resume_AfterCancellationAndWithoutTheGraph_EndsWithTheBitsOfAnUnbrokenRun(string device)
    {
        ModelDescription description = Prepare(
            MacroTables.PerTask, MacroAttention.OverNeighbours, TrainingFixture.Training(device, BalancerType.MultiBalance), rows: device == TestDevices.Simt ? 450 : 1500);
        TrainingFixture.CheckResume(
            description, _folder.Root, device, output, beforeResume: () => File.Delete(_folder["shop.graph"]), resumeOn: device == TestDevices.Cpu ? "cpu:threads=3" : null);
    }

    [Theory]
    [DeviceData]
    public void Weights_OfTheModel_AreThoseOfTheGraph(string deviceName)
    {
        ModelDescription description = Prepare(MacroTables.PerTask, MacroAttention.OverNeighbours, new());
        using Dataset data = Dataset.Open(description, _folder.Root);
        using Device device = Device.Open(deviceName);
        using MultiTaskModel model = new(device, description, data.Layout, [1, 1], 8, training: false);
        using MacroGraph graph = MacroGraph.Open(_folder["shop.graph"]);
        model.LoadMacroWeights(graph, data.Encoders);
        foreach (GraphSide side in Enum.GetValues<GraphSide>())
        {
            float[] weights = TestDevices.Read(model, model.Parameters.Single(p => p.Name == $"macro.{side.ToString().ToLowerInvariant()}.weights"));
            int width = graph.Width(side);
            for (int row = 0; row < weights.Length / width; row++)
            {
                float[] expected = new float[width];
                int node = row == 0 ? -1 : graph.Find(side, Encoding.UTF8.GetBytes($"{row}"));
                if (node < 0)
                    graph.ColdWeights(side, expected);
                else
                    graph.Weights(side, node).CopyTo(expected);
                Assert.Equal(expected, weights[(row * width)..((row + 1) * width)]);
            }
        }
    }

    [Fact]
    public void Train_WrongGraph_SaysSo()
    {
        ModelDescription description = Prepare(MacroTables.PerTask, MacroAttention.OverNeighbours, new() { Epochs = 1 });
        ModelDescription other = description with { Architecture = description.Architecture with { Macro = description.Architecture.Macro! with { UserNodes = 7 } } };
        Assert.Contains("7 user_nodes", Assert.Throws<DescriptionException>(() => Trainer.Train(other, _folder.Root, TrainingFixture.Options(_folder.Root, TestDevices.Default))).Message);
        File.Delete(_folder["shop.graph"]);
        Assert.Contains("no such macro graph", Assert.Throws<DataException>(() => Trainer.Train(description, _folder.Root, TrainingFixture.Options(_folder.Root, TestDevices.Default))).Message);
    }

    [Theory]
    [InlineData(RepresentationPlace.TowerInput)]
    [InlineData(RepresentationPlace.TrunkInput)]
    public void Run_SteadyState_AllocatesNoManagedMemory(RepresentationPlace place)
    {
        ArchitectureDescription architecture = new()
        {
            Type = ModelType.Mgoe,
            Experts = new() { PerTask = 2, Shared = 1, Layers = [8] },
            Macro = new() { User = "user", Item = "item", UserNodes = 4, ItemNodes = 6 },
            Tower = [4],
        };
        TrainingDescription training = new() { Seed = 9, Balancer = new() { Type = BalancerType.MultiBalance, Place = place } };
        using Device device = Device.Open(TestDevices.Default);
        using MultiTaskModel model = new(device, TestModels.Describe(architecture, TestModels.BinaryTasks, training), TestModels.Layout, [1, 1, 1], 40, training: true);
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, 40, new Random(1));
        BalancedModel.CheckNoManagedMemory(model, batch, TestDevices.Default);
    }

    /// <summary>A log in which users of a group like items of the group, its graph, and rows whose labels say whether groups are the same.</summary>
    private ModelDescription Prepare(MacroTables tables, MacroAttention attention, TrainingDescription training, int rows = 1500)
    {
        Random random = new(5);
        StringBuilder log = new("user,item,event\n");
        for (int user = 1; user <= Users; user++)
        {
            for (int i = 0; i < 12; i++)
                log.Append($"{user},{(random.Next(Items / Groups) * Groups) + (user % Groups) + 1},{(random.Next(3) == 0 ? "buy" : "view")}\n");
        }

        File.WriteAllText(_folder["log.csv"], log.ToString());
        MacroGraphBuilder.Build(
            new() { Log = new() { Sources = [new(_folder["log.csv"], InteractionKind.Events)] }, Tasks = ["view", "buy"], UserNodes = Groups, ItemNodes = 4 }, _folder["shop.graph"]);
        Rows("train.csv", 1, Users / 2, rows);
        Rows("test.csv", (Users / 2) + 1, Users, rows / 3);
        bool reads = tables != MacroTables.None;
        return new()
        {
            Name = "macro",
            Data = new() { Train = ["train.csv"], Test = ["test.csv"], Graph = reads ? "shop.graph" : null },
            Features =
            [
                new() { Name = "user", Type = FeatureType.Categorical, Encoding = CategoryEncoding.Identity, Buckets = Users + 1, Dimension = 4 },
                new() { Name = "item", Type = FeatureType.Categorical, Encoding = CategoryEncoding.Identity, Buckets = Items + 1, Dimension = 4 },
            ],
            Tasks = [new() { Name = "view", Type = TaskType.Binary }, new() { Name = "buy", Type = TaskType.Binary }],
            Architecture = new()
            {
                Type = ModelType.Mgoe,
                Experts = new() { PerTask = 1, Shared = 1, Layers = [16, 8] },
                Macro = reads ? new() { User = "user", Item = "item", UserNodes = Groups, ItemNodes = 4, Tables = tables, Attention = attention } : new() { Tables = tables },
                Tower = [8],
            },
            Training = training,
        };

        void Rows(string name, int firstUser, int lastUser, int count)
        {
            StringBuilder text = new("user,item,view,buy\n");
            for (int row = 0; row < count; row++)
            {
                int user = random.Next(firstUser, lastUser + 1);
                int item = random.Next(1, Items + 1);
                int same = user % Groups == (item - 1) % Groups ? 1 : 0;
                text.Append($"{user},{item},{same},{same}\n");
            }

            File.WriteAllText(_folder[name], text.ToString());
        }
    }
}
