using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>
/// Logits of tasks of the entire space: the probability of a task is that of its own tower times that of a given task, so that a conversion's loss
/// is taken over all impressions although its tower answers for the clicked ones (ESMM, Ma et al., SIGIR 2018, eq. 2 and 3).
/// </summary>
/// <remarks>A given task may have a given task itself; a chain is a product of as many probabilities.</remarks>
internal sealed unsafe class JointLogits
{
    private readonly LayerContext _context;
    private readonly List<Link> _links = [];
    private readonly Dictionary<int, HostReadable<float>> _hostLogits = [];

    /// <param name="context">The context.</param>
    /// <param name="given">For each task the index of its given task, or null; without cycles.</param>
    /// <param name="towers">[rows, 1] logits of each task's tower.</param>
    /// <param name="towerGradients">Their gradients; empty when the model is not trained.</param>
    public JointLogits(LayerContext context, IReadOnlyList<int?> given, IReadOnlyList<Slot> towers, IReadOnlyList<Slot> towerGradients)
    {
        _context = context;
        Logits = [.. towers];
        LogitGradients = [.. towerGradients];
        HashSet<int> done = [.. Enumerable.Range(0, given.Count).Where(t => given[t] == null)];
        while (done.Count < given.Count)
        {
            int task = Enumerable.Range(0, given.Count).First(t => !done.Contains(t) && done.Contains(given[t]!.Value));
            Slot logits = Slot.Reserve(context.Activations, $"joint_logits.{task}", context.MaxRows, 1);
            Logits[task] = logits;
            _hostLogits[task] = new(context, logits);
            if (context.Training)
                LogitGradients[task] = Slot.Reserve(context.Activations, $"joint_logits.{task}.gradient", context.MaxRows, 1);
            _links.Add(new(task, given[task]!.Value, towers[task], context.Training ? towerGradients[task] : null));
            done.Add(task);
        }
    }

    /// <summary>[rows, 1] of each task: the joint logit, or the tower's where there is no given task.</summary>
    public List<Slot> Logits { get; }

    /// <summary>Their gradients; those of towers without given task are the towers' own.</summary>
    public List<Slot> LogitGradients { get; }

    /// <summary>Where the host reads the joint logits of a task; null where they are the tower's.</summary>
    public HostReadable<float>? HostLogits(int task) => _hostLogits.GetValueOrDefault(task);

    /// <summary>From the towers' logits to <see cref="Logits"/>.</summary>
    public void Forward(long rows)
    {
        foreach (Link link in _links)
        {
            Slot given = Logits[link.Given];
            JointLogitsForwardArgs args = new()
            {
                StructSize = (uint)sizeof(JointLogitsForwardArgs),
                Rows = rows,
                A = link.Tower.Data,
                AStride = link.Tower.RowStride,
                B = given.Data,
                BStride = given.RowStride,
                Joint = Logits[link.Task].Data,
                JointStride = Logits[link.Task].RowStride,
            };
            NativeStatus.Check(NativeMethods.JointLogitsForward(_context.Stream.Native, &args));
            _hostLogits[link.Task].Written();
        }
    }

    /// <summary>From <see cref="LogitGradients"/> to the gradients of the towers' logits; once for each time that those were written.</summary>
    public void Backward(long rows)
    {
        for (int i = _links.Count - 1; i >= 0; i--)
        {
            Link link = _links[i];
            Slot given = Logits[link.Given];
            Slot gradient = LogitGradients[link.Task];
            Slot givenGradient = LogitGradients[link.Given];
            JointLogitsBackwardArgs args = new()
            {
                StructSize = (uint)sizeof(JointLogitsBackwardArgs),
                AccumulateB = 1,
                Rows = rows,
                A = link.Tower.Data,
                AStride = link.Tower.RowStride,
                B = given.Data,
                BStride = given.RowStride,
                Djoint = gradient.Data,
                DjointStride = gradient.RowStride,
                Da = link.TowerGradient!.Data,
                DaStride = link.TowerGradient.RowStride,
                Db = givenGradient.Data,
                DbStride = givenGradient.RowStride,
            };
            NativeStatus.Check(NativeMethods.JointLogitsBackward(_context.Stream.Native, &args));
        }
    }

    private sealed record Link(int Task, int Given, Slot Tower, Slot? TowerGradient);
}
