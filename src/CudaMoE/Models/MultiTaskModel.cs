using CudaMoE.Balancing;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Graphs;
using CudaMoE.Layers;
using CudaMoE.Tensors;

namespace CudaMoE.Models;

/// <summary>
/// A multi-task model on a device: weights, work memory for batches up to a fixed size, and the explicit forward and backward passes. After
/// construction a step allocates nothing.
/// </summary>
/// <remarks>Not thread-safe: one thread at a time. Several models may share a device.</remarks>
public sealed unsafe class MultiTaskModel : IDisposable
{
    private readonly LayerContext _context;
    private readonly DeviceBatch _deviceBatch;
    private readonly InputBlock _input;
    private readonly Trunk _trunk;
    private readonly Towers _towers;
    private readonly JointLogits? _joint;
    private readonly LossLayer _loss;
    private readonly OrderPenalty? _order;
    private readonly DenseOptimizer? _optimizer;
    private readonly List<string> _taskNames;
    private readonly Slot[] _trunkGradients = [];
    private readonly GradientColumns? _columns;
    private readonly SharedGradients? _shared;
    private readonly SharedVectors? _vectors;
    private readonly RowHalves? _rowHalves;
    private readonly UpdateNumbers? _numbers;
    private readonly StepPart _lossesPart;
    private readonly StepPart _gramPart;
    private readonly StepPart _firstPart;
    private readonly StepPart _secondPart;
    private readonly StepPart _wholeStep;
    private readonly float[] _weightValues;
    private nint _taskWeights;
    private nint _ones;
    private nint _gram;
    private nint _singleTasks;
    private bool _packed;
    private bool _weighted;
    private bool _gramIsFresh;
    private Batch? _batch;
    private long _step;
    private bool _disposed;

    /// <summary>Builds the model with freshly drawn weights.</summary>
    /// <param name="device">The device; it must outlive the model.</param>
    /// <param name="description">A validated description.</param>
    /// <param name="layout">Shape of the batches, from the data set or its encoders.</param>
    /// <param name="outputs">Logits of each task: 1, or the number of classes.</param>
    /// <param name="maxRows">Largest batch, at least 1.</param>
    /// <param name="training">Whether gradients and optimiser states are kept.</param>
    public MultiTaskModel(Device device, ModelDescription description, BatchLayout layout, IReadOnlyList<int> outputs, int maxRows, bool training)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(maxRows, 1);
        if (outputs.Count != description.Tasks.Count)
            throw new ArgumentException($"outputs has {outputs.Count} entries for {description.Tasks.Count} tasks", nameof(outputs));
        DescriptionValidator.Validate(description);
        Description = description;
        Layout = layout;
        Outputs = outputs;
        MaxRows = maxRows;
        Training = training;
        _taskNames = [.. description.Tasks.Select(t => t.Name)];
        _weightValues = new float[outputs.Count];
        _context = new(device, description, maxRows, training);
        try
        {
            ArchitectureDescription architecture = description.Architecture;
            _deviceBatch = _context.Own(new DeviceBatch(_context, layout, description.Architecture.Grec?.Padding == SequencePadding.FirstRow));
            _input = new(_context, description, layout, _deviceBatch);
            _trunk = architecture.Type switch
            {
                ModelType.SharedBottom => new BottomTrunk(_context, _input, architecture, taskNames: null, keepsGradient: false),
                ModelType.SingleTask => new BottomTrunk(_context, _input, architecture, _taskNames, HasSharedGradients && architecture.Transfer == null),
                ModelType.Grec => new GrecTrunk(_context, _input, description, layout),
                ModelType.Mmoe when FusedMixtureTrunk.Serves(_context, architecture) =>
                    new FusedMixtureTrunk(_context, _input, architecture, outputs.Count, description.Training.Seed),
                ModelType.Mmoe => new MixtureTrunk(_context, _input, architecture, outputs.Count, description.Training.Seed),
                ModelType.Mgoe => new MgoeTrunk(_context, _input, _deviceBatch, description, layout),
                ModelType.Stem => new StemTrunk(_context, _input, architecture, outputs.Count),
                _ => new FusionTrunk(_context, _input, architecture, outputs.Count),
            };
            if (architecture.Transfer != null)
                _trunk = new TransferTrunk(_context, _trunk, description);
            long belowTowers = _context.Parameters.Count;
            _towers = new(_context, _trunk, description, outputs);
            if (description.Tasks.Any(t => t.Given != null))
                _joint = new(_context, [.. description.Tasks.Select(t => t.Given == null ? (int?)null : _taskNames.IndexOf(t.Given))], _towers.Logits, _towers.LogitGradients);
            BalancerType balancer = description.Training.Balancer.Type;
            _loss = new(
                _context,
                _deviceBatch,
                description.Tasks,
                outputs,
                OutputLogits,
                OutputGradients,
                [.. description.Tasks.Select(t => balancer == BalancerType.Static ? t.Weight : 1.0)]);
            if (training && architecture.Transfer is { Penalty: > 0 } transfer)
            {
                int[] chain = TransferTrunk.Chain(description);
                _order = new(_context, transfer.Penalty, [.. chain.Select(t => OutputLogits[t])], [.. chain.Select(t => OutputGradients[t])]);
            }

            if (training)
            {
                _numbers = new(_context, description.Training.Optimizer, description.Training.EmbeddingOptimizer);
                _optimizer = new(_context, description.Training.Optimizer, description.Training.ClipNorm, _numbers);
                if (HasTrunkInputGradients)
                {
                    long width = _input.Output.Columns;
                    Slot gradients = _context.Reserve("trunk.task_gradients", width * (outputs.Count + 1));
                    _trunkGradients = [.. Enumerable.Range(0, outputs.Count + 1).Select(t => gradients.Slice(t * width, width))];
                    _context.OnBind(() => BalanceOperations.NeedGramWorkspace(_context, _trunkGradients[0], width, outputs.Count));
                }
            }

            if (training && HasSharedGradients)
            {
                bool auxiliary = architecture.Gate.BalanceLoss > 0 || architecture.Gate.ZLoss > 0;
                VectorUse use = BalancerFacts.Of(balancer).Vectors;
                _shared = new(_context, _input.Embedding, _trunk, outputs.Count, belowTowers, auxiliary, use);
                if (use != VectorUse.None)
                    _vectors = new(_context, _shared, _input.Embedding, outputs.Count, use);
                if (use == VectorUse.Halves)
                    _rowHalves = new(_context, _towers.Parts);
            }

            if (training && _shared == null && BalancerFacts.Of(balancer).Family == BalancerFamily.Columns)
                _columns = new(_context, GradientsLookedAt(), RepresentationsLookedAt());
            bool captured = training && !device.Info.HostAccessible;
            _lossesPart = _context.Own(new StepPart(_context, captured, Key, RunToLosses));
            _firstPart = _context.Own(new StepPart(_context, captured, Key, RunToTowers));
            _gramPart = _context.Own(new StepPart(_context, captured, GramKey, RunGram));
            _secondPart = _context.Own(new StepPart(_context, captured, UpdateKey, RunFromTrunk));
            _wholeStep = _context.Own(new StepPart(_context, captured, UpdateKey, RunStep));
            int tasks = outputs.Count;
            _context.Activations.Reserve("task_weights", (long)(tasks + 1) * sizeof(float), p => _taskWeights = p);
            _context.Activations.Reserve("ones", (long)tasks * sizeof(float), p => _ones = p);
            _context.Activations.Reserve("gram", (long)tasks * tasks * sizeof(double), p => _gram = p);
            if (training && HasTrunkInputGradients)
                _context.Activations.Reserve("trunk.single_tasks", (long)tasks * tasks * sizeof(float), p => _singleTasks = p);
            _context.Commit();
            float[] ones = new float[tasks];
            Array.Fill(ones, 1f);
            _context.Stream.CopyToDevice<float>(ones, _ones);
            if (_singleTasks != 0)
                _context.Stream.CopyToDevice<float>([.. Enumerable.Range(0, tasks * tasks).Select(i => i % (tasks + 1) == 0 ? 1f : 0f)], _singleTasks);
            // Behind the tasks' weights stands that of the gates' own losses.
            _context.Stream.CopyToDevice<float>([1f], _taskWeights + (tasks * sizeof(float)));
            ParameterInitializer.Initialize(Parameters, _context.Stream, description.Training.Seed);
            _input.Norm?.Initialize();
            _trunk.Initialize();
        }
        catch
        {
            _context.Dispose();
            throw;
        }
    }

    /// <summary>What it was built from.</summary>
    public ModelDescription Description { get; }

    /// <summary>
    /// Names of the units that have embedding tables of their own, in the order of their parts of the feature row; empty where a model has one set of tables.
    /// The table F of unit U is the parameter <c>embeddings.U.F.weight</c>.
    /// </summary>
    public static IReadOnlyList<string> TableUnits(ModelDescription description) => description.Architecture.Type == ModelType.Stem ? StemTrunk.Units(description) : [];

    /// <summary>Shape of its batches.</summary>
    public BatchLayout Layout { get; }

    /// <summary>Logits of each task.</summary>
    public IReadOnlyList<int> Outputs { get; }

    /// <summary>Largest batch.</summary>
    public int MaxRows { get; }

    /// <summary>Whether it can be trained.</summary>
    public bool Training { get; }

    /// <summary>The trained tensors, in a fixed order.</summary>
    public IReadOnlyList<Parameter> Parameters => _context.Parameters.All;

    /// <summary>Its device.</summary>
    public Device Device => _context.Device;

    /// <summary>Its stream.</summary>
    public DeviceStream Stream => _context.Stream;

    /// <summary>Bytes of memory by use.</summary>
    public ModelMemory Memory => new(
        Parameters.Where(p => !p.OnHost).Sum(ValueBytes),
        Parameters.Where(p => !p.OnHost).Sum(StateBytes),
        _context.Activations.Bytes,
        _context.Packed.Bytes,
        _context.WorkspaceBytes,
        Parameters.Where(p => p.OnHost).Sum(p => ValueBytes(p) + StateBytes(p)),
        _input.Embedding.CacheBytes);

    /// <summary>Waits for the device and tells what the caches of tables in host memory did so far; empty when no table has one.</summary>
    public IReadOnlyList<TableCacheCounts> ReadTableCaches() => _input.Embedding.ReadCaches();

    /// <summary>Whether the model has gates.</summary>
    public bool HasGates => GateCount > 0;

    /// <summary>Gates before the towers, those of the last level where there are several; 0 in models without gates.</summary>
    public int GateCount => _trunk.GateCount;

    /// <summary>Experts that these gates weigh; 0 in models without gates.</summary>
    public int ExpertCount => _trunk.ExpertCount;

    /// <summary>Whether the gates choose k experts.</summary>
    public bool IsSparse => _trunk.Gate?.Sparse ?? false;

    /// <summary>Sums over the last batch's rows of the gate probabilities, [gates, experts]; empty when there are none.</summary>
    public ReadOnlySpan<double> GateSums => _trunk.GateSums(_batch?.Rows ?? 0);

    /// <summary>Rows of the last batch that chose each expert, [gates, experts]; sparse mixtures only.</summary>
    public ReadOnlySpan<long> ExpertCounts => IsSparse ? _trunk.Gate!.ExpertCounts : [];

    /// <summary>Pairs of the last batch that found no place, [experts]; sparse mixtures only.</summary>
    public ReadOnlySpan<long> DroppedPairs => _trunk.DroppedPairs;

    /// <summary>Mean loss of each task over its valid rows of the last <see cref="ComputeLosses"/>.</summary>
    public ReadOnlySpan<double> Losses => _loss.Losses(_loss.Runs - 1);

    /// <summary>Weight of each task's valid rows of the last <see cref="ComputeLosses"/>; 0 = the task had no labels.</summary>
    public ReadOnlySpan<double> LossWeights => _loss.WeightSums(_loss.Runs - 1);

    /// <summary>Balance and z losses of the last batch, and in training the penalty of a chain of tasks, times their coefficients.</summary>
    public double AuxiliaryLoss => (_trunk.Gate?.AuxiliaryLoss((long)(_batch?.Rows ?? 0) * _trunk.GateRowsPerSample) ?? 0) + (_order?.Value() ?? 0);

    /// <summary>Whether training steps run from captures; not where the host reads the device's memory.</summary>
    internal bool CapturesSteps
    {
        get => _wholeStep.Enabled;
        set => _lossesPart.Enabled = _firstPart.Enabled = _gramPart.Enabled = _secondPart.Enabled = _wholeStep.Enabled = value;
    }

    /// <summary>How many captures were run, those of a step's parts and of forward passes, but for each one's first run.</summary>
    internal long Replays => _context.Replays;

    /// <summary>
    /// How many of the last <see cref="ComputeLosses"/> can still be read: 1 on a device whose memory the host reads, where that costs nothing; more
    /// elsewhere, where reading waits for the device, so that it need not be done in each step.
    /// </summary>
    internal int LossesKept => _loss.Kept;

    /// <summary>As <see cref="Losses"/>, of the <paramref name="back"/>th run before the last one.</summary>
    internal ReadOnlySpan<double> EarlierLosses(int back) => _loss.Losses(_loss.Runs - 1 - back);

    /// <summary>As <see cref="LossWeights"/>, of the <paramref name="back"/>th run before the last one.</summary>
    internal ReadOnlySpan<double> EarlierLossWeights(int back) => _loss.WeightSums(_loss.Runs - 1 - back);

    private List<Slot> OutputLogits => _joint?.Logits ?? _towers.Logits;

    private List<Slot> OutputGradients => _joint?.LogitGradients ?? _towers.LogitGradients;

    /// <summary>The first input whose number of values a capture of a forward pass would keep.</summary>
    private SparseInput? NotCaptured => Device.Info.HostAccessible ? Layout.Sparse.FirstOrDefault(input => input.MultiHot) : null;

    private bool HasTrunkInputGradients =>
        _trunk.SplitsInputGradient && !_trunk.Shared && Description.Training.Balancer.Place == RepresentationPlace.TrunkInput &&
        BalancerFacts.FormsGram(Description.Training.Balancer);

    private bool HasSharedGradients =>
        Description.Training.Balancer.Place == RepresentationPlace.SharedParameters && BalancerFacts.FormsGram(Description.Training.Balancer);

    /// <summary>
    /// Takes the macro weights of a graph for the users and items of the encoders; nodes that the graph does not have get those of a node without
    /// edges. For models with macro nodes, before they are trained: a checkpoint holds the weights.
    /// </summary>
    /// <param name="graph">The graph; its macro nodes are as many as the description says.</param>
    /// <param name="encoders">The encoders that the model's ids come from.</param>
    /// <exception cref="DescriptionException">The graph has another number of macro nodes.</exception>
    public void LoadMacroWeights(MacroGraph graph, FittedEncoders encoders)
    {
        if (_trunk is MgoeTrunk { MacroWeights: { } weights })
            MacroWeightLoader.Load(weights, Description.Architecture.Macro!, graph, encoders);
        else
            throw new InvalidOperationException("the model has no macro nodes");
    }

    /// <summary>Must be called after parameters were changed from outside.</summary>
    public void ParametersChanged() => _packed = false;

    /// <summary>Computes the logits of a batch.</summary>
    /// <param name="batch">At most <see cref="MaxRows"/> samples, of <see cref="Layout"/>.</param>
    /// <param name="step">The training step (seed of gate noise); below 0 for evaluation.</param>
    public void Forward(Batch batch, long step = -1)
    {
        Load(batch, step);
        Run();
    }

    /// <summary>Whether <see cref="CaptureForward"/> serves this model.</summary>
    public bool CanCaptureForward => NotCaptured is null;

    /// <summary>
    /// A forward pass of evaluation over one batch object, kept as one call: what is in the batch may change, its number of rows may too but then the
    /// pass is captured anew. It saves the checks and calls of each layer, and on a GPU the launch of each kernel, which is most of the time of
    /// small batches.
    /// </summary>
    /// <param name="batch">
    /// Of <see cref="Layout"/>, which on a device whose memory the host reads must not have multi-hot features or sequences: their number of values would be kept.
    /// Elsewhere they get room for more values than they have, and the pass is captured anew when that changes.
    /// </param>
    /// <exception cref="NotSupportedException">The model has such features.</exception>
    public ForwardCapture CaptureForward(Batch batch)
    {
        if (NotCaptured is { } input)
            throw new NotSupportedException($"feature \"{input.Name}\" has several values a sample; a capture would keep their number; call Forward instead");
        return new(this, batch);
    }

    /// <summary>Runs a forward pass from a capture where that still fits, else makes it.</summary>
    internal void RunCaptured(Batch batch, ref DeviceCapture? capture, ref (int Rows, int Rooms, nint Begin) captured)
    {
        Load(batch, step: -1);
        if (capture != null && captured == (batch.Rows, _deviceBatch.RoomsNumber, _deviceBatch.Begin))
        {
            capture.Launch();
            _context.Replayed();
            return;
        }

        Run();
        capture?.Dispose();
        capture = null;
        capture = Stream.Capture(Run);
        captured = (batch.Rows, _deviceBatch.RoomsNumber, _deviceBatch.Begin);
    }

    private void Load(Batch batch, long step)
    {
        ThrowIfDisposed();
        Layout.Require(batch.Layout);
        if (batch.Rows > MaxRows)
            throw new ArgumentException($"the batch has {batch.Rows} rows; this model was built for at most {MaxRows}", nameof(batch));
        if (!_packed)
            RunPack();
        _packed = true;
        _batch = batch;
        _step = step;
        _context.StepOnDevice = null;
        _input.Load(batch);
    }

    private void Run()
    {
        long rows = _batch!.Rows;
        _input.Forward(rows);
        _trunk.Forward(rows, _step);
        _towers.Forward(rows);
        _joint?.Forward(rows);
    }

    /// <summary>[rows, outputs] logits of a task where the host can read them, valid until the next forward; waits for the device.</summary>
    public Tensor ReadLogits(int task)
    {
        ThrowIfDisposed();
        long rows = _batch?.Rows ?? 0;
        return _joint?.HostLogits(task) is { } joint ? Logits(task) with { Pointer = (nint)joint.Read(rows) } : _towers.ReadLogits(task, rows);
    }

    /// <summary>As <see cref="ReadLogits"/>, of the task's own tower: for a task with a given one, of the probability where that one is the case.</summary>
    public Tensor ReadTowerLogits(int task)
    {
        ThrowIfDisposed();
        return _towers.ReadLogits(task, _batch?.Rows ?? 0);
    }

    /// <summary>[rows, outputs] logits of a task in device memory, valid until the next forward.</summary>
    public Tensor Logits(int task) => OutputLogits[task].View(_batch?.Rows ?? 0);

    /// <summary>Losses of the last forward, and in training their gradients on the logits, with those of the penalty of a chain of tasks.</summary>
    public void ComputeLosses()
    {
        ThrowIfDisposed();
        LoadLabels(_batch ?? throw NoBatch());
        RunLosses();
        _loss.Keep();
    }

    /// <summary>The gradient on a task's logits, [rows, outputs]: written by <see cref="ComputeLosses"/>, or by the caller.</summary>
    public Tensor LogitGradients(int task) => OutputGradients[task].View(_batch?.Rows ?? 0);

    /// <summary>
    /// First part of the backward: towers, up to the task gradients on the representation. Once for each time that <see cref="LogitGradients"/> were
    /// written.
    /// </summary>
    public void BackwardTowers()
    {
        RequireTraining();
        if (_batch == null)
            throw NoBatch();
        RunBackwardTowers();
    }

    /// <summary>
    /// Gram matrix [tasks, tasks] of the task gradients on the shared representation, flattened over the batch. At the towers' inputs by default; at the
    /// trunk's input when the description says so, which costs one backward pass a task through experts and gates; or of the shared parameters, which costs a whole
    /// backward pass a task below the towers and leaves the gradients of the last one.
    /// </summary>
    public void ComputeGram(Span<double> gram)
    {
        RequireTraining();
        if (_batch == null)
            throw NoBatch();
        if (_shared != null)
            _shared.Rows = _batch.Rows;
        _gramPart.Run();
        if (_shared != null)
            _shared.ReadGram(gram);
        else
            _context.Stream.CopyToHost(_gram, gram);
    }

    /// <summary>The gradients of shared parameters as vectors, for balancers that compare or keep them; null where there are none.</summary>
    internal IGradientVectors? GradientVectors => _vectors;

    /// <summary>What a balancer keeps on the device, for checkpoints.</summary>
    internal IEnumerable<(string Name, nint Address, long Count)> BalancerStates => _vectors?.States ?? [];

    /// <summary>Columns of a task's gradient where the balancer looks.</summary>
    public int GradientWidth => HasTrunkInputGradients ? (int)_input.Output.Columns : _trunk.Width;

    /// <summary>Sums over the rows of the task gradients that <see cref="ComputeGram"/> looked at; only for balancers that ask for them.</summary>
    /// <param name="kind">Which sums.</param>
    /// <param name="columns">Receives [tasks, <see cref="GradientWidth"/>], for halves twice as much.</param>
    public void ComputeColumns(ColumnKind kind, Span<double> columns)
    {
        RequireTraining();
        long rows = (_batch ?? throw NoBatch()).Rows;
        (_columns ?? throw NoColumns()).Sum(rows, kind, columns);
    }

    /// <summary>Multiplies the columns of the task gradients by factors [tasks, <see cref="GradientWidth"/>]; after <see cref="ComputeGram"/>, before <see cref="BackwardTrunk"/>.</summary>
    public void ScaleColumns(ReadOnlySpan<float> factors)
    {
        RequireTraining();
        long rows = (_batch ?? throw NoBatch()).Rows;
        (_columns ?? throw NoColumns()).Scale(rows, factors);
    }

    /// <summary>Second part of the backward: combines the task gradients and goes down to the embeddings.</summary>
    /// <param name="weights">[tasks] factor of each task's gradient on the representation; empty = all 1.</param>
    /// <param name="gramIsFresh">Whether <see cref="ComputeGram"/> ran on this batch.</param>
    public void BackwardTrunk(ReadOnlySpan<float> weights, bool gramIsFresh)
    {
        RequireTraining();
        if (_batch == null)
            throw NoBatch();
        SetWeights(weights, gramIsFresh);
        RunBackwardTrunk();
    }

    /// <summary>A whole training step whose weights need nothing of it, as one call where it can be captured.</summary>
    /// <param name="batch">As in <see cref="Forward"/>.</param>
    /// <param name="weights">As in <see cref="BackwardTrunk"/>.</param>
    /// <param name="rates">As in <see cref="Update"/>.</param>
    internal void Step(Batch batch, ReadOnlySpan<float> weights, in StepRates rates)
    {
        RequireTraining();
        LoadAll(batch, rates);
        SetWeights(weights, gramIsFresh: false);
        _wholeStep.Run();
        _loss.Keep();
    }

    /// <summary>The first part of a training step, likewise: <see cref="Forward"/>, <see cref="ComputeLosses"/>, <see cref="BackwardTowers"/>.</summary>
    internal void StepToTowers(Batch batch, in StepRates rates)
    {
        RequireTraining();
        LoadAll(batch, rates);
        _firstPart.Run();
        _loss.Keep();
    }

    /// <summary>The second part of a training step, likewise: <see cref="BackwardTrunk"/>, <see cref="Update"/>.</summary>
    internal void StepFromTrunk(ReadOnlySpan<float> weights, bool gramIsFresh)
    {
        SetWeights(weights, gramIsFresh);
        _secondPart.Run();
    }

    /// <summary>The losses after a training step, likewise: <see cref="Forward"/>, <see cref="ComputeLosses"/>.</summary>
    internal void LossesAfterStep(Batch batch, in StepRates rates)
    {
        LoadAll(batch, rates);
        _lossesPart.Run();
        _loss.Keep();
    }

    private StepKey Key() => new(_batch!.Rows, _deviceBatch.Begin, _deviceBatch.RoomsNumber, _deviceBatch.BeginLabels, Workspace: 0, Weighted: false, GramIsFresh: false);

    private StepKey GramKey() => _shared == null ? Key() : Key() with { Workspace = _input.Embedding.UpdateWorkspace };

    private StepKey UpdateKey() => Key() with { Workspace = _input.Embedding.UpdateWorkspace, Weighted = _weighted, GramIsFresh = _gramIsFresh };

    private void LoadLabels(Batch batch)
    {
        _loss.Load(batch);
        _order?.Load(batch.Rows);
    }

    private void LoadAll(Batch batch, in StepRates rates)
    {
        Load(batch, rates.Step);
        LoadLabels(batch);
        SetRates(rates);
        _context.StepOnDevice = _numbers!.Dense;
    }

    private void SetWeights(ReadOnlySpan<float> weights, bool gramIsFresh)
    {
        if (!weights.IsEmpty)
        {
            weights.CopyTo(_weightValues);
            _context.Stream.CopyToDevice<float>(_weightValues, _taskWeights);
        }

        _weighted = !weights.IsEmpty;
        _gramIsFresh = gramIsFresh;
    }

    private void SetRates(in StepRates rates) => _numbers!.Set(rates.Dense, rates.Embedding, rates.Step);

    private void RunStep()
    {
        RunToTowers();
        RunFromTrunk();
    }

    private void RunToTowers()
    {
        RunToLosses();
        RunBackwardTowers();
    }

    private void RunFromTrunk()
    {
        RunBackwardTrunk();
        RunUpdate();
    }

    private void RunToLosses()
    {
        Run();
        RunLosses();
    }

    private void RunLosses()
    {
        _loss.Run();
        _order?.Run();
    }

    private void RunBackwardTowers()
    {
        long rows = _batch!.Rows;
        _joint?.Backward(rows);
        _towers.Backward(rows);
    }

    private void RunBackwardTrunk()
    {
        long rows = _batch!.Rows;
        float* device = _weighted ? (float*)_taskWeights : null;
        if (device != null && BalancerFacts.Heads(Description.Training.Balancer) == HeadGradient.Scaled)
            _towers.ScaleParameterGradients(_taskNames, device);
        // Where gradients are only looked at, the place is not where weights go.
        bool atPlace = device != null && BalancerFacts.Of(Description.Training.Balancer.Type).UsesGradients;
        if (_shared != null && atPlace)
        {
            SharedBackward(_shared, rows, device);
        }
        else if (HasTrunkInputGradients && atPlace)
        {
            TrunkInputBackward(rows, device, _gramIsFresh);
            _input.Backward(rows);
        }
        else
        {
            BackwardBelow(rows, device);
        }
    }

    /// <summary>From the tasks' gradients on the representation, each times its weight (null = 1), down to the tables.</summary>
    private void BackwardBelow(long rows, float* weights)
    {
        if (weights == null)
            _towers.SumShared(rows, (float*)_ones);
        else
            _towers.CombineShared(rows, weights);
        _trunk.Backward(rows, _step, weights);
        _input.Backward(rows);
    }

    /// <summary>Applies the gradients to all parameters. With clipping, gradients whose global norm is not finite change nothing, tables included.</summary>
    /// <param name="learningRate">Of the dense parameters.</param>
    /// <param name="embeddingLearningRate">Of the tables.</param>
    /// <param name="step">Counts from 1.</param>
    public void Update(float learningRate, float embeddingLearningRate, long step)
    {
        RequireTraining();
        if (_batch == null)
            throw NoBatch();
        SetRates(new(learningRate, embeddingLearningRate, step));
        RunUpdate();
    }

    private void RunUpdate()
    {
        _optimizer!.Step();
        _input.Embedding.Update(_numbers!.Embedding, _optimizer.Norm);
        RunPack();
    }

    /// <summary>Global norm of the last step's dense gradients before clipping; NaN when clipping is off.</summary>
    public double LastGradientNorm => _optimizer?.LastNorm ?? double.NaN;

    /// <summary>The gradient of the last backward on each embedding table, as dense matrices in the order of the tables among <see cref="Parameters"/>.</summary>
    public IReadOnlyList<float[]> EmbeddingGradients()
    {
        RequireTraining();
        List<float[]> gradients = [.. Parameters.Where(p => p.Kind == ParameterKind.Embedding).Select(p => new float[p.Count])];
        if (_batch == null)
            throw NoBatch();
        _input.Embedding.DenseGradients(gradients);
        return gradients;
    }

    /// <summary>The gradient of the last backward on the feature row, [rows, features]; null when there are no tables.</summary>
    public Tensor? FeatureGradients => _input.Embedding.OutputGradient?.View(_batch?.Rows ?? 0);

    /// <inheritdoc/>
    public void Dispose()
    {
        _disposed = true;
        _context.Dispose();
    }

    /// <summary>What the towers read, [rows, width] or [rows, tasks * width].</summary>
    internal Tensor Representations => _trunk.Representation.View(_batch?.Rows ?? 0);

    /// <summary>Gradient of the representation as the towers left it, or after <see cref="BackwardTrunk"/> as it was combined.</summary>
    internal Tensor RepresentationGradients => _trunk.RepresentationGradient.View(_batch?.Rows ?? 0);

    /// <summary>Gradient of the trunk's input after <see cref="BackwardTrunk"/>.</summary>
    internal Tensor TrunkInputGradients => _input.OutputGradient!.View(_batch?.Rows ?? 0);

    /// <summary>The look-up of a batch alone, for benchmarks.</summary>
    internal void EmbeddingForward(Batch batch)
    {
        _input.Embedding.Load(batch);
        _input.Embedding.Forward();
    }

    /// <summary>Look-up and update with the gradient that stands in the buffer, for benchmarks.</summary>
    internal void EmbeddingStep(Batch batch, float learningRate, long step)
    {
        EmbeddingForward(batch);
        SetRates(new(0, learningRate, step));
        _input.Embedding.Update(_numbers!.Embedding, norm: null);
    }

    /// <summary>Where the balancer finds the gradient of each task.</summary>
    private Slot[] GradientsLookedAt() => HasTrunkInputGradients
        ? _trunkGradients[..Outputs.Count]
        : [.. Enumerable.Range(0, Outputs.Count).Select(t => _towers.Parts.Slice((long)t * _trunk.Width, _trunk.Width))];

    /// <summary>What those are gradients of.</summary>
    private Slot[] RepresentationsLookedAt() =>
    [
        .. Enumerable.Range(0, Outputs.Count).Select(t => HasTrunkInputGradients
            ? _input.Output
            : _trunk.Shared ? _trunk.Representation : _trunk.Representation.Slice((long)t * _trunk.Width, _trunk.Width)),
    ];

    private static long ValueBytes(Parameter parameter) => parameter.Count * (parameter.Type == ElementType.F32 ? 4L : 2L);

    private static long StateBytes(Parameter parameter) => (parameter.State1Count + parameter.State2Count) * 4L;

    private static InvalidOperationException NoColumns() => new("the description's balancer does not look at the columns of gradients");

    private static InvalidOperationException NoBatch() => new("Forward has not run");

    private void ThrowIfDisposed() => ObjectDisposedException.ThrowIf(_disposed, this);

    private void RequireTraining()
    {
        ThrowIfDisposed();
        if (!Training)
            throw new InvalidOperationException("the model was built without training");
    }

    private void RunPack()
    {
        _input.Pack();
        _trunk.Pack();
        _towers.Pack();
    }

    private void RunGram()
    {
        long rows = _batch!.Rows;
        if (_shared != null)
            SharedGram(_shared, rows);
        else if (HasTrunkInputGradients)
            TrunkInputGram(rows);
        else
            _towers.Gram(rows, (double*)_gram);
    }

    private void SharedGram(SharedGradients shared, long rows)
    {
        int tasks = Outputs.Count;
        _trunk.AuxiliaryLosses = false;
        _rowHalves?.Save(rows);
        for (int part = 0; part < shared.TaskParts; part++)
        {
            if (part == tasks)
                _rowHalves!.Restore(rows);
            if (part % tasks == 0)
                _rowHalves?.Clear(rows, part == 0 ? 1 : 0);
            BackwardBelow(rows, shared.Only(part % tasks));
            shared.Keep(rows, part);
        }

        _rowHalves?.Restore(rows);
        _trunk.AuxiliaryLosses = true;
        if (shared.HasAuxiliary)
        {
            BackwardBelow(rows, shared.Only(tasks));
            shared.Keep(rows, shared.TaskParts);
        }

        shared.RunGram();
    }

    private void SharedBackward(SharedGradients shared, long rows, float* weights)
    {
        bool scaled = BalancerFacts.Heads(Description.Training.Balancer) == HeadGradient.Scaled;
        if (_gramIsFresh)
        {
            shared.Combine(rows, weights, scaled);
            return;
        }

        bool own = shared.HasOwn && !scaled;
        if (own)
        {
            BackwardBelow(rows, weights: null);
            shared.CopyOwn(restore: false);
        }

        BackwardBelow(rows, weights);
        if (own)
            shared.CopyOwn(restore: true);
    }

    private void TrunkInputGram(long rows)
    {
        int tasks = Outputs.Count;
        for (int t = 0; t < tasks; t++)
            _trunk.BackwardInputOf(rows, _step, (float*)_singleTasks + (t * tasks), _trunkGradients[t]);
        BalanceOperations.Gram(_context, _trunkGradients[0], _input.Output.Columns, tasks, rows, (double*)_gram);
    }

    private void TrunkInputBackward(long rows, float* weights, bool gramIsFresh)
    {
        int tasks = Outputs.Count;
        if (_input.OutputGradient is { } target)
        {
            if (gramIsFresh)
                BalanceOperations.Combine(_context, _trunkGradients[0], _input.Output.Columns, tasks, rows, weights, target, accumulate: false);
            else
                _trunk.BackwardInputOf(rows, _step, weights, target);
            if (Description.Architecture.Gate.BalanceLoss > 0 || Description.Architecture.Gate.ZLoss > 0)
            {
                _trunk.BackwardAuxiliary(_context, rows, _step, _trunkGradients[tasks]);
                BalanceOperations.Combine(_context, _trunkGradients[tasks], 0, 1, rows, (float*)_ones, target, accumulate: true);
            }
        }

        bool scaled = BalancerFacts.Heads(Description.Training.Balancer) == HeadGradient.Scaled;
        _trunk.BackwardParameters(rows, _step, scaled ? weights : null);
    }
}

/// <summary>Memory of a model in bytes, of the device but for the tables that are described to be on the host.</summary>
/// <param name="Parameters">Values of all parameters.</param>
/// <param name="OptimizerStates">States of the optimisers.</param>
/// <param name="Activations">Activations and gradients of the largest batch.</param>
/// <param name="PackedWeights">Weights reordered for the products.</param>
/// <param name="Workspace">Work space of operations.</param>
/// <param name="HostTables">Host memory: tables with their optimiser states, which the other numbers leave out.</param>
/// <param name="TableCaches">Caches of these tables, in the device's memory.</param>
public sealed record ModelMemory(long Parameters, long OptimizerStates, long Activations, long PackedWeights, long Workspace, long HostTables, long TableCaches);
