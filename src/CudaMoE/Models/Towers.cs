using CudaMoE.Description;
using CudaMoE.Interop;
using CudaMoE.Layers;
using CudaMoE.Tensors;

namespace CudaMoE.Models;

/// <summary>
/// A tower a task, from the representation to logits. Towers with the same number of outputs run as one grouped product; they also give what a
/// balancer asks for: the Gram matrix of the task gradients on the representation.
/// </summary>
internal sealed unsafe class Towers
{
    private readonly LayerContext _context;
    private readonly Trunk _trunk;
    private readonly int _tasks;
    private readonly List<GroupedMlp> _towers = [];
    private readonly bool _together;
    private readonly bool _hasGram;
    private readonly Slot? _taskGradients;
    private readonly Slot? _gradientProducts;
    private readonly Slot? _weightProducts;
    private readonly long[] _starts;
    private readonly List<HostReadable<float>> _hostLogits = [];
    private Parameter[][]? _parameters;
    private GemmWgradArgs _gradientProduct;
    private GemmForwardArgs _weightProduct;
    private BalanceFactoredGramArgs _factoredArgs;

    public Towers(LayerContext context, Trunk trunk, ModelDescription description, IReadOnlyList<int> outputs)
    {
        _context = context;
        _trunk = trunk;
        _tasks = outputs.Count;
        Outputs = outputs;
        // Where a balancer looks at the gradients themselves, those of a shared representation must be formed, tower by tower.
        // Where every task's goes down alone, too: the weights of the products would have to be taken back.
        BalancerDescription balancer = description.Training.Balancer;
        bool formed = trunk.Shared
            && (BalancerFacts.Of(balancer.Type).Family == BalancerFamily.Columns || balancer.Place == RepresentationPlace.SharedParameters);
        _together = outputs.All(n => n == outputs[0]) && !formed;
        _starts = new long[_tasks + 1];
        ArchitectureDescription architecture = description.Architecture;
        if (_together)
        {
            _towers.Add(Build(architecture, [.. description.Tasks.Select(t => t.Name)], trunk.Representation, trunk.Shared ? GroupInput.Shared : GroupInput.Strided, outputs[0]));
        }
        else
        {
            for (int t = 0; t < _tasks; t++)
            {
                Slot x = trunk.Shared ? trunk.Representation : trunk.Representation.Slice((long)t * trunk.Width, trunk.Width);
                _towers.Add(Build(architecture, [description.Tasks[t].Name], x, GroupInput.Shared, outputs[t]));
            }
        }

        foreach (GroupedMlp tower in _towers)
            _hostLogits.Add(new(context, tower.Output));
        for (int t = 0; t < _tasks; t++)
        {
            Logits.Add(_together ? _towers[0].Output.Slice((long)t * outputs[t], outputs[t]) : _towers[t].Output);
            if (context.Training)
                LogitGradients.Add(_together ? _towers[0].OutputGradient.Slice((long)t * outputs[t], outputs[t]) : _towers[t].OutputGradient);
        }

        _hasGram = context.Training && BalancerFacts.FormsGram(balancer);
        if (context.Training && trunk.Shared && !_together)
            _taskGradients = context.Reserve("tower.input_gradients", (long)trunk.Width * _tasks);
        if (!_hasGram)
            return;
        if (trunk.Shared && _together)
        {
            long h = FirstWidth * _tasks;
            _gradientProducts = Slot.ReserveExact(context.Activations, "gram.gradients", h, h, h);
            _weightProducts = Slot.ReserveExact(context.Activations, "gram.weights", h, h, h);
            for (int t = 0; t <= _tasks; t++)
                _starts[t] = t * FirstWidth;
        }

        context.OnBind(Bind);
    }

    public IReadOnlyList<int> Outputs { get; }

    /// <summary>[rows, outputs] of each task.</summary>
    public List<Slot> Logits { get; } = [];

    /// <summary>Their gradients.</summary>
    public List<Slot> LogitGradients { get; } = [];

    /// <summary>Where the task parts of the representation's gradient are stored, side by side.</summary>
    public Slot Parts => _taskGradients ?? _trunk.RepresentationGradient;

    private long FirstWidth => _towers[0].First.Plan.N;

    public void Pack()
    {
        foreach (GroupedMlp tower in _towers)
            tower.Pack();
    }

    public void Forward(long rows)
    {
        foreach (GroupedMlp tower in _towers)
            tower.Forward(rows);
        foreach (HostReadable<float> logits in _hostLogits)
            logits.Written();
    }

    /// <summary>[rows, outputs] logits of a task where the host can read them; waits for the device.</summary>
    public Tensor ReadLogits(int task, long rows)
    {
        int place = _together ? 0 : task;
        Slot all = _towers[place].Output;
        float* host = _hostLogits[place].Read(rows * all.RowStride);
        return Logits[task].View(rows) with { Pointer = (nint)host + (Logits[task].Pointer - all.Pointer) };
    }

    /// <summary>From <see cref="LogitGradients"/> to the towers' parameters and first-layer gradients; task parts of the representation's gradient follow where
    /// they are stored (not for a shared representation under equal towers, whose parts are never formed).</summary>
    public void Backward(long rows)
    {
        foreach (GroupedMlp tower in _towers)
            tower.Backward(rows);
        if (_trunk.Shared && _together)
            return;
        if (_together)
        {
            _towers[0].BackwardInput(rows, new(_trunk.RepresentationGradient, Accumulate: false, _trunk.Factor, _trunk.Activation));
            return;
        }

        Slot target = Parts;
        for (int t = 0; t < _tasks; t++)
        {
            Slot? factor = _trunk.Factor == null || _trunk.Shared ? _trunk.Factor : _trunk.Factor.Slice((long)t * _trunk.Width, _trunk.Width);
            _towers[t].BackwardInput(rows, new(target.Slice((long)t * _trunk.Width, _trunk.Width), Accumulate: false, factor, _trunk.Activation));
        }
    }

    /// <summary>Forms the Gram matrix [tasks, tasks] of the task gradients on the representation in device memory, after <see cref="Backward"/>.</summary>
    /// <param name="rows">Rows of the batch.</param>
    /// <param name="gram">In device memory.</param>
    public void Gram(long rows, double* gram)
    {
        if (!_hasGram)
            throw new InvalidOperationException("the model was built with a balancer that does not look at gradients");
        if (_trunk.Shared && _together)
            FactoredGram(rows, gram);
        else
            BalanceOperations.Gram(_context, Parts, _trunk.Width, _tasks, rows, gram);
    }

    /// <summary>Combines the parts of a shared representation's gradient by <paramref name="taskWeights"/> (device memory); nothing to do when it is not shared.</summary>
    public void CombineShared(long rows, float* taskWeights)
    {
        if (!_trunk.Shared)
            return;
        Slot target = _trunk.RepresentationGradient;
        if (!_together)
        {
            BalanceOperations.Combine(_context, _taskGradients!, _trunk.Width, _tasks, rows, taskWeights, target, accumulate: false);
            return;
        }

        for (int t = 0; t < _tasks; t++)
            BalanceOperations.Scale(_context, _towers[0].FirstGradient.Slice(t * FirstWidth, FirstWidth), rows, taskWeights + t);
        _towers[0].BackwardInput(rows, new(target, Accumulate: false, _trunk.Factor, _trunk.Activation));
    }

    /// <summary>Combines with all weights 1, without the pass that scales.</summary>
    public void SumShared(long rows, float* ones)
    {
        if (_trunk.Shared && _together)
            _towers[0].BackwardInput(rows, new(_trunk.RepresentationGradient, Accumulate: false, _trunk.Factor, _trunk.Activation));
        else
            CombineShared(rows, ones);
    }

    /// <summary>Multiplies the gradients of each tower's own parameters by its task's weight, in device memory.</summary>
    public void ScaleParameterGradients(IReadOnlyList<string> taskNames, float* weights)
    {
        _parameters ??= [.. taskNames.Select(name => _context.Parameters.All.Where(p => p.Name.StartsWith($"towers.{name}.", StringComparison.Ordinal)).ToArray())];
        for (int t = 0; t < _tasks; t++)
        {
            foreach (Parameter parameter in _parameters[t])
                BalanceOperations.ScaleGradient(_context, parameter, weights + t);
        }
    }

    private GroupedMlp Build(ArchitectureDescription architecture, IReadOnlyList<string> names, Slot x, GroupInput input, int outputs) => new(_context, new()
    {
        Name = "towers",
        GroupNames = names,
        Groups = names.Count,
        Widths = [.. architecture.Tower, outputs],
        Activation = architecture.Activation,
        ActivateLast = false,
        X = x,
        InputWidth = _trunk.Width,
        Input = names.Count == 1 ? GroupInput.Shared : input,
    });

    private void FactoredGram(long rows, double* gram)
    {
        _gradientProduct.Rows = rows;
        _gradientProduct.XRows = rows;
        _gradientProduct.Workspace = _weightProduct.Workspace = (void*)_context.Workspace;
        _gradientProduct.WorkspaceBytes = _weightProduct.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (GemmWgradArgs* args = &_gradientProduct)
            NativeStatus.Check(NativeMethods.GemmWgrad(_context.Stream.Native, args));
        fixed (GemmForwardArgs* args = &_weightProduct)
            NativeStatus.Check(NativeMethods.GemmForward(_context.Stream.Native, args));
        fixed (long* starts = _starts)
        fixed (BalanceFactoredGramArgs* args = &_factoredArgs)
        {
            args->Starts = starts;
            args->Gram = gram;
            NativeStatus.Check(NativeMethods.BalanceFactoredGram(_context.Stream.Native, args));
        }
    }

    private void Bind()
    {
        if (!_trunk.Shared || !_together)
        {
            BalanceOperations.NeedGramWorkspace(_context, Parts, _trunk.Width, _tasks);
            return;
        }

        long bytes;
        long h = FirstWidth * _tasks;
        Slot dz = _towers[0].FirstGradient;
        Linear first = _towers[0].First;
        _gradientProduct = new()
        {
            StructSize = (uint)sizeof(GemmWgradArgs),
            Groups = 1,
            Rows = _context.MaxRows,
            N = h,
            K = h,
            XRows = _context.MaxRows,
            Dz = dz.Data,
            DzRowStride = dz.RowStride,
            X = dz.Data,
            XRowStride = dz.RowStride,
            Dw = _gradientProducts!.Data,
            DwRowStride = h,
        };
        fixed (GemmWgradArgs* args = &_gradientProduct)
            NativeStatus.Check(NativeMethods.GemmWgradWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
        _weightProduct = first.WeightProductArgs(_weightProducts!);
        fixed (GemmForwardArgs* args = &_weightProduct)
            NativeStatus.Check(NativeMethods.GemmForwardWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
        _factoredArgs = new()
        {
            StructSize = (uint)sizeof(BalanceFactoredGramArgs),
            Tasks = _tasks,
            GradientProducts = _gradientProducts.Data,
            GradientProductsRowStride = h,
            WeightProducts = _weightProducts!.Data,
            WeightProductsRowStride = h,
        };
    }
}
