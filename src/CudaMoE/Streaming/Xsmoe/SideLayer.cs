using CudaMoE.Description;
using CudaMoE.Interop;
using CudaMoE.Layers;

namespace CudaMoE.Streaming.Xsmoe;

/// <summary>
/// One mixture of a side ladder (XSMoE, arXiv 2508.05993): with x from the layer below and h the frozen encoder's state,
///   g = softmax(R x), E_k(x) = U_k^T GELU(D_k x) + x, y = g_0 h + sum over k of g_k E_k(x).
/// </summary>
/// <remarks>
/// Since the gates sum to 1 this is y = (sum of the experts' gates) x + g_0 h + (g GELU(D x)) U with the experts' D and U one below the other, and every
/// expert's part of the hidden row times its gate: two plain products for all experts, however many. U_k is kept as [adapter, width], transposed to the
/// usual layout of a
/// layer, so that an expert is a run of rows in both matrices and frozen experts, the first ones, are left out of the weight gradients by where these begin.
/// </remarks>
internal sealed unsafe class SideLayer
{
    private readonly LayerContext _context;
    private readonly Scratch _scratch;
    private readonly SideExperts _experts;
    private readonly int _width;
    private readonly int _adapter;
    private readonly Linear _down;
    private readonly UnitGates _gates;
    private readonly Products _up;
    private readonly Products _mixing;
    private readonly ParameterBlock _downWeight;
    private readonly ParameterBlock _upWeight;
    private readonly Slot _hidden;
    private readonly Slot _preactivation;
    private readonly Slot _scaled;
    private readonly Slot _mix;
    private readonly Slot _scaledGradient;
    private readonly Slot _hiddenGradient;
    private readonly Slot _mixGradient;
    private readonly Slot _inputGradient;
    private nint _slotOfPair;
    private nint _mixingMatrix;
    private CombineForwardArgs _scale;
    private CombineForwardArgs _sum;
    private CombineBackwardArgs _scaleBackward;
    private CombineBackwardArgs _sumBackward;

    /// <param name="context">The context whose rows are items.</param>
    /// <param name="scratch">Work space.</param>
    /// <param name="name">Prefix of the parameters' names.</param>
    /// <param name="width">Width of the states.</param>
    /// <param name="adapter">Width of an expert's bottleneck.</param>
    /// <param name="experts">The experts.</param>
    public SideLayer(LayerContext context, Scratch scratch, string name, int width, int adapter, SideExperts experts)
    {
        _context = context;
        _scratch = scratch;
        _experts = experts;
        _width = width;
        _adapter = adapter;
        int count = experts.Count;
        Input = context.ReserveExact($"{name}.input", 2L * width);
        X = Input.Slice(0, width);
        H = Input.Slice(width, width);
        _hidden = context.ReserveExact($"{name}.hidden", (long)count * adapter);
        _preactivation = context.ReserveExact($"{name}.preactivation", (long)count * adapter);
        _scaled = context.ReserveExact($"{name}.scaled", (count + 1L) * adapter);
        _mix = context.ReserveExact($"{name}.mix", 2);
        _downWeight = context.Parameters.AddGroup([.. Enumerable.Range(0, count).Select(k => $"{name}.experts.{k}.down")], ParameterKind.Weight, [adapter, width]);
        _upWeight = context.Parameters.AddGroup([.. Enumerable.Range(0, count).Select(k => $"{name}.experts.{k}.up")], ParameterKind.Weight, [adapter, width]);
        _down = new(context, new()
        {
            Groups = 1,
            N = (long)count * adapter,
            K = width,
            Input = GroupInput.Shared,
            X = X,
            Y = _hidden,
            Weight = _downWeight,
            Activation = ActivationKind.Gelu,
            Preactivation = _preactivation,
        });
        _gates = new(context, new() { Name = $"{name}.router", Gates = 1, Experts = count + 1, X = X, InputWidth = width, OwnInputs = false, Bias = false });
        _up = new(context, scratch, $"{name}.up", (long)count * adapter, width);
        _mixing = new(context, scratch, $"{name}.mixing", 2, count + 1);
        _scaledGradient = context.ReserveExact($"{name}.scaled_gradient", (count + 1L) * adapter);
        _hiddenGradient = context.ReserveExact($"{name}.hidden_gradient", (long)count * adapter);
        _mixGradient = context.ReserveExact($"{name}.mix_gradient", 2);
        _inputGradient = context.ReserveExact($"{name}.input_gradient", 2L * width);
        context.Activations.Reserve($"{name}.pairs", (long)context.MaxRows * (count + 1) * sizeof(int), p => _slotOfPair = p);
        context.Activations.Reserve($"{name}.mixing", 2L * (count + 1) * sizeof(float), p => _mixingMatrix = p);
        context.OnBind(Bind);
    }

    /// <summary>[rows, width] what the layer reads from below.</summary>
    public Slot X { get; }

    /// <summary>[rows, width] the encoder's states.</summary>
    public Slot H { get; }

    /// <summary>[rows, experts + 1] weights of the encoder's state (entry 0) and of the experts.</summary>
    public Slot Gates => _gates.Output;

    /// <summary>[rows, experts * adapter] the experts' hidden rows, before their gates.</summary>
    public Slot Hidden => _hidden;

    /// <summary>[rows, width] gradient of <see cref="X"/>, after a backward that was asked for it.</summary>
    public Slot XGradient => _inputGradient.Slice(0, _width);

    /// <summary>The encoder's entry and the experts.</summary>
    public SideExperts Experts => _experts;

    private Slot Input { get; }

    public void Pack()
    {
        _down.Pack();
        _gates.Pack();
        _up.Pack(_upWeight.Value, (long)_experts.Count * _adapter);
    }

    /// <summary>Writes y [rows, width].</summary>
    public void Forward(long rows, Slot y)
    {
        _down.Forward(rows);
        _gates.Forward(rows);
        _scale.Rows = rows;
        _scale.ExpertRows = rows * _experts.Count;
        Run(ref _scale);
        _mixing.Forward(rows, _gates.Output.Data, _gates.Output.RowStride, null, _mix.Data, _mix.RowStride);
        _sum.Rows = rows;
        _sum.Y = y.Data;
        _sum.YRowStride = y.RowStride;
        Run(ref _sum);
        _up.Transposed(rows, _scaled.Data + _adapter, _scaled.RowStride, y.Data, y.RowStride, accumulate: true);
    }

    /// <summary>Gradients of the router, of the experts that are not frozen and, if wanted, of <see cref="X"/>.</summary>
    public void Backward(long rows, Slot dy, bool inputGradient)
    {
        _sumBackward.Dy = dy.Data;
        _sumBackward.DyRowStride = dy.RowStride;
        Run(ref _sumBackward, rows, expertRows: 0);
        _up.Forward(rows, dy.Data, dy.RowStride, null, _scaledGradient.Data + _adapter, _scaledGradient.RowStride);
        long first = (long)_experts.Frozen * _adapter;
        long trained = ((long)_experts.Count * _adapter) - first;
        if (trained > 0)
            _up.Gradient(rows, _scaled.Data + _adapter + first, _scaled.RowStride, trained, dy.Data, dy.RowStride, _upWeight.Gradient + (first * _width), _width);
        Run(ref _scaleBackward, rows, rows * _experts.Count);
        _mixing.Transposed(rows, _mixGradient.Data, _mixGradient.RowStride, _gates.OutputGradient.Data, _gates.OutputGradient.RowStride, accumulate: true);
        if (trained > 0)
            _up.Gradient(rows, _hiddenGradient.Data + first, _hiddenGradient.RowStride, trained, X.Data, X.RowStride, _downWeight.Gradient + (first * _width), _width);
        _gates.Backward(rows, weights: true);
        if (!inputGradient)
            return;
        InputGradientTarget target = new(XGradient, Accumulate: true, Below: null, ActivationKind.None);
        _down.BackwardInput(rows, _hiddenGradient, target);
        _gates.BackwardInput(rows, target);
    }

    /// <summary>Lists what the optimiser changes: of the experts those that are not frozen.</summary>
    public IEnumerable<(ParameterBlock Block, long FirstTrained)> Trained()
    {
        long first = (long)_experts.Frozen * _adapter * _width;
        yield return (_downWeight, first);
        yield return (_upWeight, first);
    }

    private void Run(ref CombineForwardArgs combine)
    {
        fixed (CombineForwardArgs* args = &combine)
            NativeStatus.Check(NativeMethods.CombineForward(_context.Stream.Native, args));
    }

    private void Run(ref CombineBackwardArgs combine, long rows, long expertRows)
    {
        combine.Rows = rows;
        combine.ExpertRows = expertRows;
        fixed (CombineBackwardArgs* args = &combine)
        {
            long bytes;
            NativeStatus.Check(NativeMethods.CombineBackwardWorkspace(_context.Stream.Native, args, &bytes));
            combine.Workspace = _scratch.Need(bytes);
            combine.WorkspaceBytes = _scratch.Bytes;
            NativeStatus.Check(NativeMethods.CombineBackward(_context.Stream.Native, args));
        }
    }

    private void Bind()
    {
        UploadConstants();
        int count = _experts.Count;
        _scale = new()
        {
            StructSize = (uint)sizeof(CombineForwardArgs),
            Tasks = count + 1,
            Width = _adapter,
            Choices = 1,
            Gates = _gates.Output.Data,
            SlotOfPair = (int*)_slotOfPair,
            Expert = _hidden.Data,
            ExpertRowStride = _adapter,
            Y = _scaled.Data,
            YRowStride = _scaled.RowStride,
            YTaskStride = _adapter,
        };
        _sum = new()
        {
            StructSize = (uint)sizeof(CombineForwardArgs),
            Tasks = 1,
            Width = _width,
            Choices = 2,
            Gates = _mix.Data,
            Expert = Input.Data,
            ExpertRowStride = Input.RowStride,
            ExpertStride = _width,
            YTaskStride = _width,
        };
        _scaleBackward = new()
        {
            StructSize = (uint)sizeof(CombineBackwardArgs),
            Tasks = count + 1,
            Width = _adapter,
            Choices = 1,
            Activation = (int)ActivationKind.Gelu,
            Gates = _gates.Output.Data,
            SlotOfPair = (int*)_slotOfPair,
            Expert = _hidden.Data,
            Preactivation = _preactivation.Data,
            ExpertRowStride = _adapter,
            Dy = _scaledGradient.Data,
            DyRowStride = _scaledGradient.RowStride,
            DyTaskStride = _adapter,
            Dexpert = _hiddenGradient.Data,
            DexpertRowStride = _adapter,
            Dgates = _gates.OutputGradient.Data,
        };
        _sumBackward = new()
        {
            StructSize = (uint)sizeof(CombineBackwardArgs),
            Tasks = 1,
            Width = _width,
            Choices = 2,
            Gates = _mix.Data,
            Expert = Input.Data,
            ExpertRowStride = Input.RowStride,
            ExpertStride = _width,
            DyTaskStride = _width,
            Dexpert = _inputGradient.Data,
            DexpertRowStride = _inputGradient.RowStride,
            DexpertStride = _width,
            Dgates = _mixGradient.Data,
        };
    }

    private void UploadConstants()
    {
        int count = _experts.Count;
        int[] pairs = new int[_context.MaxRows * (count + 1)];
        for (int row = 0; row < _context.MaxRows; row++)
        {
            pairs[row * (count + 1)] = -1;
            for (int k = 0; k < count; k++)
                pairs[(row * (count + 1)) + k + 1] = (row * count) + k;
        }

        _context.Stream.CopyToDevice<int>(pairs, _slotOfPair);
        float[] mixing = new float[2 * (count + 1)];
        mixing.AsSpan(1, count).Fill(1);
        mixing[count + 1] = 1;
        _context.Stream.CopyToDevice<float>(mixing, _mixingMatrix);
        _mixing.Pack((float*)_mixingMatrix, 2);
    }
}
