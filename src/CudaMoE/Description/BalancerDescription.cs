namespace CudaMoE.Description;

/// <summary>A balancer of the tasks and its constants. A constant that is left out has the method's own default; one that the method does not have is refused.</summary>
public sealed record BalancerDescription
{
    /// <summary>Which one.</summary>
    public BalancerType Type { get; init; } = BalancerType.Equal;

    /// <summary>What gradients are balanced: those of the towers' inputs (one backward pass), of the trunk's input (faithful to MultiBalance, a
    /// backward pass a task through experts and gates), or of the shared parameters, tables included (a whole backward pass a task below the towers). For balancers
    /// that look at gradients; the last place not for grad_drop.</summary>
    public RepresentationPlace Place { get; init; } = RepresentationPlace.TowerInput;

    /// <summary>Rate of a moving average, above 0 to 1: of gradient norms (multi_balance 0.01, meta_balance 0.1), cosines (grad_vac 0.5), gradients (moco 0.5, db_mtl 0.1).</summary>
    [NumberRange(0, 1, AboveMinimum = true)]
    public double? Gamma { get; init; }

    /// <summary>Step of the weights, above 0: multi_balance 0.1, moco 0.1, modo 0.001, sdmgrad 5, excess_mtl 0.01; learning rate of what is learnt: uw, imtl_l and imtl 0.001,
    /// famo and grad_norm 0.025.</summary>
    [NumberRange(0, AboveMinimum = true)]
    public double? Beta { get; init; }

    /// <summary>Pull to equal weights, at least 0: multi_balance 0.1, moco 0, modo 0.1, sdmgrad 0.3.</summary>
    [NumberRange(0)]
    public double? Rho { get; init; }

    /// <summary>The method's own constant, at least 0: cagrad's c 0.5, grad_norm 1.5, fair_grad 1, meta_balance's relaxation 0.7, grad_drop's leak 0.</summary>
    [NumberRange(0)]
    public double? Alpha { get; init; }

    /// <summary>Temperature of a softmax, above 0: dwa 2, stch 1.</summary>
    [NumberRange(0, AboveMinimum = true)]
    public double? Temperature { get; init; }

    /// <summary>dwa, stch, grad_norm: steps over which mean losses are taken; null = an epoch.</summary>
    [NumberRange(1)]
    public long? Period { get; init; }

    /// <summary>stch: periods of the warm-up; 4.</summary>
    [NumberRange(0)]
    public long? Warmup { get; init; }

    /// <summary>famo: pull of the learnt numbers to 0; 0.001.</summary>
    [NumberRange(0)]
    public double? Decay { get; init; }

    /// <summary>meta_balance: index of the task that the others are moved to; 0.</summary>
    [NumberRange(0)]
    public int? Target { get; init; }

    /// <summary>pe_ltr: the least weight of each task, in the order of the tasks, with a sum below 1; null = 0.</summary>
    [NumberRange(0, 1, BelowMaximum = true)]
    public IReadOnlyList<double>? Minimum { get; init; }

    /// <summary>multi_balance: how the Gram matrix is scaled before the step of the weights, cosine, none or trace; nash_mtl and fair_grad: mean or none.</summary>
    public GramScale? GramScale { get; init; }

    /// <summary>mgda (none) and moco (loss_norm): what the gradients are divided or multiplied by first.</summary>
    public GradientNormalization? Normalize { get; init; }

    /// <summary>moco: how weights are brought back to the simplex; projection.</summary>
    public SimplexMap? Simplex { get; init; }

    /// <summary>aligned_mtl: which eigenvalue gives the size of the aligned gradients; minimum.</summary>
    public EigenvalueScale? EigenvalueScale { get; init; }

    /// <summary>Steps between two evaluations of the weights; at least 1. For balancers that look at gradients, but grad_drop.</summary>
    [NumberRange(1)]
    public int Every { get; init; } = 1;

    /// <summary>
    /// For balancers that look at no gradients: steps from one look at the tasks' gradients at <see cref="Place"/> to the next, for norms and cosines in the log; 0 = never. A look costs what a Gram
    /// matrix costs there and changes nothing in the training.
    /// </summary>
    [NumberRange(0)]
    public int ObserveEvery { get; init; }

    /// <summary>Least weight of a task: weights are mixed with equal ones, 0 to below 1 / tasks. Not for balancers whose weights may be negative, nor equal and static.</summary>
    [NumberRange(0, 1, BelowMaximum = true)]
    public double Floor { get; init; }

    /// <summary>Multiply the combined gradient by the number of tasks, so that its size compares with a plain sum.</summary>
    public bool TimesTasks { get; init; } = true;

    /// <summary>Whether the towers' own parameters get their task's full gradient, or the balanced one; null = own for balancers that look at gradients, scaled for
    /// those that weight losses.</summary>
    public HeadGradient? Heads { get; init; }
}

/// <summary>Balancers of this version.</summary>
public enum BalancerType
{
    /// <summary>All weights 1.</summary>
    Equal,

    /// <summary>The tasks' own weights.</summary>
    Static,

    /// <summary>Learnt uncertainties (Kendall et al. 2018).</summary>
    Uw,

    /// <summary>Dynamic weight average (Liu et al. 2019).</summary>
    Dwa,

    /// <summary>Geometric loss strategy (Chennupati et al. 2019).</summary>
    Gls,

    /// <summary>Random loss weighting (Lin et al. 2022).</summary>
    Rlw,

    /// <summary>Smooth Tchebycheff scalarisation (Lin et al. 2024).</summary>
    Stch,

    /// <summary>Fast adaptive multitask optimisation (Liu et al. 2023).</summary>
    Famo,

    /// <summary>Learnt loss scales (Liu et al. 2021, the loss part of IMTL).</summary>
    ImtlL,

    /// <summary>Learnt weights for gradients of like length (Chen et al. 2018).</summary>
    GradNorm,

    /// <summary>Least norm of the combined gradient (Sener and Koltun 2018, on the representation: MGDA-UB).</summary>
    Mgda,

    /// <summary>MultiBalance (He et al. 2024), as the project's documentation states it.</summary>
    MultiBalance,

    /// <summary>Projection of conflicting gradients (Yu et al. 2020).</summary>
    Pcgrad,

    /// <summary>Gradient vaccine (Wang et al. 2021).</summary>
    GradVac,

    /// <summary>Conflict-averse gradient descent (Liu et al. 2021).</summary>
    Cagrad,

    /// <summary>Equal projections on all gradients (Liu et al. 2021, the gradient part of IMTL).</summary>
    ImtlG,

    /// <summary>Both parts of IMTL (Liu et al. 2021).</summary>
    Imtl,

    /// <summary>Nash bargaining (Navon et al. 2022).</summary>
    NashMtl,

    /// <summary>Alpha-fair progress (Ban and Ji 2024).</summary>
    FairGrad,

    /// <summary>Orthogonal gradients of one length (Senushkin et al. 2023).</summary>
    AlignedMtl,

    /// <summary>Gradients projected onto the dual cone (Quinton and Rey 2024).</summary>
    Upgrad,

    /// <summary>Pareto-efficient weights with minima (Lin et al. 2019).</summary>
    PeLtr,

    /// <summary>Lengths moved to that of a target task (He et al. 2022).</summary>
    MetaBalance,

    /// <summary>Least norm with tracked gradients (Fernando et al. 2023).</summary>
    Moco,

    /// <summary>Least norm with double sampling (Chen et al. 2023).</summary>
    Modo,

    /// <summary>Direction-oriented least norm with double sampling (Xiao et al. 2023).</summary>
    Sdmgrad,

    /// <summary>Log losses and gradients of one length (Lin et al. 2023).</summary>
    DbMtl,

    /// <summary>Weights by estimated excess risk (He et al. 2024).</summary>
    ExcessMtl,

    /// <summary>Random sign consistency by feature (Chen et al. 2020).</summary>
    GradDrop,
}

/// <summary>Places of the shared representation.</summary>
public enum RepresentationPlace
{
    /// <summary>Each tower's input.</summary>
    TowerInput,

    /// <summary>The input of the trunk: the feature row after projection and normalisation.</summary>
    TrunkInput,

    /// <summary>No representation, but the parameters that several tasks share: tables, input block and trunk.</summary>
    SharedParameters,
}

/// <summary>Scalings of the Gram matrix.</summary>
public enum GramScale
{
    /// <summary>Rows and columns divided by the gradients' norms.</summary>
    Cosine,

    /// <summary>As it is.</summary>
    None,

    /// <summary>Divided by its trace.</summary>
    Trace,

    /// <summary>Divided by the mean of its diagonal.</summary>
    Mean,
}

/// <summary>What gradients are scaled by before weights are sought.</summary>
public enum GradientNormalization
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>Divided by their norms.</summary>
    Norm,

    /// <summary>Divided by their losses.</summary>
    Loss,

    /// <summary>mgda: divided by norm and loss. moco: divided by the norm and multiplied by the loss.</summary>
    LossNorm,
}

/// <summary>Ways back to the simplex.</summary>
public enum SimplexMap
{
    /// <summary>The nearest point.</summary>
    Projection,

    /// <summary>The softmax.</summary>
    Softmax,
}

/// <summary>Eigenvalues that may give a size.</summary>
public enum EigenvalueScale
{
    /// <summary>The least one that is not 0.</summary>
    Minimum,

    /// <summary>Their median.</summary>
    Median,

    /// <summary>Their mean.</summary>
    Mean,
}

/// <summary>Gradients of the towers' own parameters.</summary>
public enum HeadGradient
{
    /// <summary>The task's own, unweighted.</summary>
    Own,

    /// <summary>Times the task's weight.</summary>
    Scaled,
}
