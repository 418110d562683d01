using CudaMoE.Data;
using CudaMoE.Description;

namespace CudaMoE.Tests.Models;

/// <summary>Small grec models: every routing level, every kind of token, and the ends of each option.</summary>
internal static class GrecModels
{
    private static readonly ArchitectureDescription Base = new()
    {
        Type = ModelType.Grec,
        Activation = ActivationKind.Tanh,
        Tower = [4],
        Experts = new() { Count = 3, Layers = [5] },
        Gate = new() { TopK = 1, BalanceLoss = 0.2f, ZLoss = 0.05f },
        Grec = new() { Width = 6, Blocks = 1, Heads = 2, FeedForward = 5, Current = ["item"], Text = ["tags"] },
    };

    public static IReadOnlyDictionary<string, ModelDescription> All { get; } = Make();

    public static BatchLayout LayoutOf(ModelDescription description) =>
        description.Features.Count == 1 ? TestModels.DenseLayout : TestModels.SequenceLayout with { Sparse = [.. TestModels.SequenceLayout.Sparse.Take(description.Features.Count - 1)] };

    private static Dictionary<string, ModelDescription> Make()
    {
        GrecDescription grec = Base.Grec!;
        return new()
        {
            ["task sentence"] = Model(Base),
            ["task sentence, two experts of three"] = Model(Base with { Gate = Base.Gate with { TopK = 2, Renormalize = true }, Grec = grec with { TokenCapacity = 3 } }),
            ["token"] = Model(Base with { Grec = grec with { Routing = RoutingLevel.Token } }),
            ["task"] = Model(Base with { Grec = grec with { Routing = RoutingLevel.Task } }),
            ["sentence"] = Model(Base with { Grec = grec with { Routing = RoutingLevel.Sentence }, Gate = Base.Gate with { TopK = 2 } }),
            ["task sentence pooled"] = Model(Base with { Grec = grec with { Routing = RoutingLevel.TaskSentencePooled } }),
            ["capacity of one token"] = Model(Base with { Grec = grec with { TokenCapacity = 1, Routing = RoutingLevel.Sentence } }),
            ["capacity of one token, others pass"] = Model(Base with { Grec = grec with { TokenCapacity = 1, Overflow = CapacityOverflow.Pass } }),
            ["capacity of two tokens of a sentence, others pass"] = Model(
                Base with { Grec = grec with { TokenCapacity = 2, Overflow = CapacityOverflow.Pass, Routing = RoutingLevel.Sentence }, Experts = Base.Experts! with { Count = 2 } }),
            ["padding is the first row, hard maximum"] = Model(
                Base with { Grec = grec with { Width = 8, Blocks = 0, Sequence = [["pages", "history"]], Pooling = SequencePooling.MeanHardMax, Padding = SequencePadding.FirstRow } }),
            ["padding is the first row, blocks"] = Model(Base with { Grec = grec with { Sequence = [["pages"], ["history"]], Padding = SequencePadding.FirstRow, Blocks = 2 } }),
            ["current item as it is, text of numbers"] = Model(Base with { Grec = grec with { Width = 8, CurrentLayer = false, Current = ["item", "previous"], Text = ["tags", "numbers"] } }),
            ["one expert"] = Model(Base with { Experts = Base.Experts! with { Count = 1 } }),
            ["one sequence as wide as a token, no blocks"] = Model(Base with { Grec = grec with { Width = 4, Blocks = 0, Pooling = SequencePooling.Mean, Current = [], Text = [] } }, sequences: 1),
            ["two blocks over one sequence, deep towers, mixed tasks"] = Model(
                Base with { Activation = ActivationKind.Silu, Tower = [4, 3], Grec = grec with { Width = 17, Heads = 3, HeadWidth = 2, Blocks = 2, Current = ["item", "user"] } },
                TestModels.MixedTasks,
                1),
            ["no sequence"] = Model(Base with { Grec = grec with { Blocks = 2 } }, sequences: 0),
            ["only numbers"] = Model(Base with { Grec = grec with { Blocks = 2, Current = [], Text = [] } }, sequences: -1),
        };
    }

    private static ModelDescription Model(ArchitectureDescription architecture, IReadOnlyList<TaskDescription>? tasks = null, int sequences = 2)
    {
        FeatureDescription history = new() { Name = "history", Type = FeatureType.Sequence, Dimension = 4, Table = "item", MaxLength = 3 };
        ModelDescription all = TestModels.Describe(architecture, tasks ?? TestModels.BinaryTasks);
        FeatureDescription numbers = all.Features[^1];
        return all with
        {
            Features = sequences < 0
                ? [numbers with { Size = 6 }]
                : [.. all.Features.Take(4), .. new[] { history, history with { Name = "pages", Table = null } }.Take(sequences), numbers],
        };
    }
}
