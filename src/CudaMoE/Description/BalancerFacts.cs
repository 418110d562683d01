using CudaMoE.Balancing;

namespace CudaMoE.Description;

/// <summary>What a balancer looks at.</summary>
internal enum BalancerFamily
{
    /// <summary>Nothing: the weights are fixed.</summary>
    Fixed,

    /// <summary>The losses.</summary>
    Losses,

    /// <summary>The Gram matrix of the task gradients, and the losses.</summary>
    Gram,

    /// <summary>Vectors too: sums of the columns of the stored task gradients, or the gradients of shared parameters themselves.</summary>
    Columns,
}

/// <summary>What holds of a type of balancer, stated once for rules, model and training.</summary>
/// <param name="Family">What it looks at.</param>
/// <param name="Keys">The constants that it has, beside those of its family.</param>
/// <param name="MayBeNegative">Whether weights below 0 occur.</param>
/// <param name="Vectors">What it does with gradient vectors.</param>
internal sealed record BalancerFacts(BalancerFamily Family, string[] Keys, bool MayBeNegative = false, VectorUse Vectors = VectorUse.None)
{
    private static readonly Dictionary<BalancerType, BalancerFacts> All = new()
    {
        [BalancerType.Equal] = new(BalancerFamily.Fixed, []),
        [BalancerType.Static] = new(BalancerFamily.Fixed, []),
        [BalancerType.Uw] = new(BalancerFamily.Losses, ["beta"]),
        [BalancerType.Dwa] = new(BalancerFamily.Losses, ["temperature", "period"]),
        [BalancerType.Gls] = new(BalancerFamily.Losses, []),
        [BalancerType.Rlw] = new(BalancerFamily.Losses, []),
        [BalancerType.Stch] = new(BalancerFamily.Losses, ["temperature", "period", "warmup"]),
        [BalancerType.Famo] = new(BalancerFamily.Losses, ["beta", "decay"]),
        [BalancerType.ImtlL] = new(BalancerFamily.Losses, ["beta"]),
        [BalancerType.GradNorm] = new(BalancerFamily.Gram, ["alpha", "beta", "period"]),
        [BalancerType.Mgda] = new(BalancerFamily.Gram, ["normalize"]),
        [BalancerType.MultiBalance] = new(BalancerFamily.Gram, ["gamma", "beta", "rho", "gram_scale"]),
        [BalancerType.Pcgrad] = new(BalancerFamily.Gram, []),
        [BalancerType.GradVac] = new(BalancerFamily.Gram, ["gamma"]),
        [BalancerType.Cagrad] = new(BalancerFamily.Gram, ["alpha"]),
        [BalancerType.ImtlG] = new(BalancerFamily.Gram, [], MayBeNegative: true),
        [BalancerType.Imtl] = new(BalancerFamily.Gram, ["beta"], MayBeNegative: true),
        [BalancerType.NashMtl] = new(BalancerFamily.Gram, ["gram_scale"]),
        [BalancerType.FairGrad] = new(BalancerFamily.Gram, ["alpha", "gram_scale"]),
        [BalancerType.AlignedMtl] = new(BalancerFamily.Gram, ["eigenvalue_scale"], MayBeNegative: true),
        [BalancerType.Upgrad] = new(BalancerFamily.Gram, []),
        [BalancerType.PeLtr] = new(BalancerFamily.Gram, ["minimum"]),
        [BalancerType.MetaBalance] = new(BalancerFamily.Gram, ["alpha", "gamma", "target"]),
        [BalancerType.Moco] = new(BalancerFamily.Columns, ["gamma", "beta", "rho", "normalize", "simplex"], Vectors: VectorUse.Tracked),
        [BalancerType.Modo] = new(BalancerFamily.Columns, ["beta", "rho"], Vectors: VectorUse.Halves),
        [BalancerType.Sdmgrad] = new(BalancerFamily.Columns, ["beta", "rho"], Vectors: VectorUse.Halves),
        [BalancerType.DbMtl] = new(BalancerFamily.Columns, ["gamma"], Vectors: VectorUse.Tracked),
        [BalancerType.ExcessMtl] = new(BalancerFamily.Columns, ["beta"], Vectors: VectorUse.Squares),
        [BalancerType.GradDrop] = new(BalancerFamily.Columns, ["alpha"]),
    };

    /// <summary>Whether gradients of single tasks are looked at.</summary>
    public bool UsesGradients => Family is BalancerFamily.Gram or BalancerFamily.Columns;

    /// <summary>Whether Gram matrices are formed, for the balancer or to be looked at.</summary>
    public static bool FormsGram(BalancerDescription balancer) => Of(balancer.Type).UsesGradients || balancer.ObserveEvery > 0;

    /// <summary>The facts of a type.</summary>
    public static BalancerFacts Of(BalancerType type) => All[type];

    /// <summary>The types that have a constant.</summary>
    public static IEnumerable<BalancerType> With(string key) => All.Where(entry => entry.Value.Keys.Contains(key)).Select(entry => entry.Key);

    /// <summary>What the towers' own parameters get.</summary>
    public static HeadGradient Heads(BalancerDescription balancer) =>
        balancer.Heads ?? (Of(balancer.Type).Family == BalancerFamily.Losses ? HeadGradient.Scaled : HeadGradient.Own);
}
