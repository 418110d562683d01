using System.Text.Json;
using CudaMoE.Balancing;
using CudaMoE.Models;
using static CudaMoE.Description.DescriptionValidator;

namespace CudaMoE.Description;

/// <summary>The rules of the balancer.</summary>
internal static class BalancerRules
{
    private const string Path = "training.balancer";

    public static void Check(ModelDescription description)
    {
        BalancerDescription balancer = description.Training.Balancer;
        int tasks = description.Tasks.Count;
        BalancerFacts facts = BalancerFacts.Of(balancer.Type);
        CheckKeys(balancer, facts);
        CheckConstants(balancer, tasks);
        CheckFrame(balancer, facts, tasks);
        if (BalancerFacts.FormsGram(balancer) && tasks > 1)
            CheckPlace(balancer, description);
    }

    /// <summary>Refuses constants that the method does not have.</summary>
    private static void CheckKeys(BalancerDescription balancer, BalancerFacts facts)
    {
        Check("gamma", balancer.Gamma);
        Check("beta", balancer.Beta);
        Check("rho", balancer.Rho);
        Check("alpha", balancer.Alpha);
        Check("temperature", balancer.Temperature);
        Check("period", balancer.Period);
        Check("warmup", balancer.Warmup);
        Check("decay", balancer.Decay);
        Check("target", balancer.Target);
        Check("minimum", balancer.Minimum);
        Check("gram_scale", balancer.GramScale);
        Check("normalize", balancer.Normalize);
        Check("simplex", balancer.Simplex);
        Check("eigenvalue_scale", balancer.EigenvalueScale);

        void Check(string key, object? value)
        {
            if (value is null || facts.Keys.Contains(key))
                return;
            string having = string.Join(", ", BalancerFacts.With(key).Select(Name));
            throw Error($"{Path}.{key}", $"has no effect with type {Name(balancer.Type)}; only {having} have it; remove it");
        }
    }

    private static void CheckConstants(BalancerDescription balancer, int tasks)
    {
        if (balancer is { Type: BalancerType.FairGrad, Alpha: 0 })
            throw Error(Path + ".alpha", $"is 0; with fair_grad it must be above 0");
        if (balancer is { Type: BalancerType.MetaBalance or BalancerType.GradDrop, Alpha: > 1 })
            throw Error(Path + ".alpha", $"is {balancer.Alpha}; with {Name(balancer.Type)} it must be at most 1");
        if (balancer.Target >= tasks)
            throw Error(Path + ".target", $"is {balancer.Target}; there are {tasks} tasks, counted from 0");
        GramScale[] scales = balancer.Type == BalancerType.MultiBalance ? [GramScale.Cosine, GramScale.None, GramScale.Trace] : [GramScale.Mean, GramScale.None];
        if (balancer.GramScale is { } scale && !scales.Contains(scale))
            throw Error(Path + ".gram_scale", $"is {Name(scale)}; with {Name(balancer.Type)} it must be one of {string.Join(", ", scales.Select(Name))}");
        if (balancer is { Type: BalancerType.Moco, Normalize: GradientNormalization.Norm or GradientNormalization.Loss })
            throw Error(Path + ".normalize", $"is {Name(balancer.Normalize.Value)}; with moco it must be one of none, loss_norm");
        if (balancer.Minimum is { } minimum)
        {
            if (minimum.Count != tasks)
                throw Error(Path + ".minimum", $"has {minimum.Count} entries; it must have one a task, {tasks}");
            if (minimum.Sum() >= 1)
                throw Error(Path + ".minimum", $"has the sum {minimum.Sum()}; it must be below 1");
        }
    }

    /// <summary>The keys that belong to families.</summary>
    private static void CheckFrame(BalancerDescription balancer, BalancerFacts facts, int tasks)
    {
        if (balancer.Floor * tasks >= 1)
            throw Error(Path + ".floor", $"is {balancer.Floor}; it must be below 1 / tasks = {1d / tasks:G4}");
        if (balancer.Floor > 0 && facts.MayBeNegative)
            throw Error(Path + ".floor", $"is {balancer.Floor}, but the weights of {Name(balancer.Type)} may be negative; remove it");
        if (balancer.Floor > 0 && facts.Family == BalancerFamily.Fixed)
            throw Error(Path + ".floor", $"has no effect with type {Name(balancer.Type)}; remove it");
        if (balancer.Every > 1 && (!facts.UsesGradients || balancer.Type == BalancerType.GradDrop))
            throw Error(Path + ".every", $"has no effect with type {Name(balancer.Type)}; it is for balancers that look at gradients, but grad_drop; remove it");
        if (balancer.Place != RepresentationPlace.TowerInput && !BalancerFacts.FormsGram(balancer))
            throw Error(Path + ".place", $"has no effect with type {Name(balancer.Type)}, which looks at no gradients; remove it, or set observe_every");
        if (balancer.ObserveEvery > 0 && facts.UsesGradients)
            throw Error(Path + ".observe_every", $"has no effect with type {Name(balancer.Type)}, which looks at gradients itself; remove it");
        if (balancer.Heads == HeadGradient.Scaled && facts.MayBeNegative)
            throw Error(Path + ".heads", $"is scaled, but the weights of {Name(balancer.Type)} may be negative and would turn a tower's training round; use own");
        if (balancer.Heads is not null && facts.Family == BalancerFamily.Fixed)
            throw Error(Path + ".heads", $"has no effect with type {Name(balancer.Type)}; remove it");
    }

    private static void CheckPlace(BalancerDescription balancer, ModelDescription description)
    {
        ArchitectureDescription architecture = description.Architecture;
        if (balancer.Place == RepresentationPlace.SharedParameters)
        {
            CheckSharedParameters(balancer, description);
            return;
        }

        if (architecture is { Type: ModelType.SingleTask, Bottom.Count: > 0, Transfer: null })
        {
            string other = HasInputParameters(description) ? ", or place shared_parameters" : "";
            throw Error(Path + ".type", $"balances gradients on a shared representation, but a single_task model with bottoms shares none; use equal or static, or a balancer of losses{other}");
        }

        if (ArchitectureRules.TowersShareInput(architecture) && balancer.Place == RepresentationPlace.TrunkInput)
            throw Error(Path + ".place", $"is trunk_input, but the towers of this model all read one representation; use tower_input, which is exact there");
    }

    private static void CheckSharedParameters(BalancerDescription balancer, ModelDescription description)
    {
        if (balancer.Type == BalancerType.GradDrop)
            throw Error(Path + ".place", $"is shared_parameters, but grad_drop compares each gradient with the sign of the representation's column, which parameters do not have; use tower_input or trunk_input");
        if (BalancerFacts.Of(balancer.Type).Vectors != VectorUse.None && description.Tasks.Count > SharedVectors.MostTasks)
            throw Error(Path + ".place", $"is shared_parameters; {Name(balancer.Type)} takes at most {SharedVectors.MostTasks} tasks there, and there are {description.Tasks.Count}; use tower_input or trunk_input");
        if (description.Architecture.Type == ModelType.SingleTask && !HasInputParameters(description))
            throw Error(Path + ".place", $"is shared_parameters, but this single_task model shares no parameter: it has no tables, no projection and no layer_norm; use equal or static, or a balancer of losses");
    }

    /// <summary>Whether anything below the trunk is trained.</summary>
    private static bool HasInputParameters(ModelDescription description) =>
        description.Architecture is { Projection: not null } or { LayerNorm: true } || description.Features.Any(FeatureRules.IsCategory);

    private static string Name<T>(T value)
        where T : struct, Enum => JsonNamingPolicy.SnakeCaseLower.ConvertName(value.ToString());
}
