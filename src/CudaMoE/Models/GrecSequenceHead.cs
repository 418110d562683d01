using CudaMoE.Description;
using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>
/// The sequence token: sequences multiplied position by position, a linear layer to the width of a token where the embeddings have another, parallel transformer blocks with
/// residual connections, pooling over the valid positions (or all), two linear layers. A sequence without values pools to zeros.
/// </summary>
internal sealed unsafe class GrecSequenceHead : GrecHead
{
    /// <summary>Inverse temperature of the smooth maximum.</summary>
    public const float MaximumScale = 10;

    private const int MaxHeadWidth = 256;
    private readonly Func<nint> _lengths;
    private readonly int _positions;
    private readonly SequenceFactor[] _sequences;
    private readonly bool _padded;
    private readonly List<GatedProduct> _products = [];
    private readonly SlotSums _sums;
    private readonly Slot _embedded;
    private readonly Linear? _widen;
    private readonly List<ParallelBlock> _blocks = [];
    private readonly Attention _mean;
    private readonly Attention? _maximum;
    private readonly SequenceMaximum? _hardMaximum;
    private readonly Slot _pooled;
    private readonly GroupedMlp _output;
    private readonly Slot? _pooledGradient;
    private readonly Slot? _meanQueryGradient;
    private readonly Slot? _maximumQueryGradient;
    private readonly Slot? _keyGradient;
    private readonly Slot? _valueGradient;
    private readonly Slot? _embeddedGradient;
    private nint _ones;

    /// <param name="context">The context.</param>
    /// <param name="sums">Copies and sums.</param>
    /// <param name="grec">The model.</param>
    /// <param name="sequences">What is multiplied position by position, all of the same width.</param>
    /// <param name="positions">Positions of a sequence.</param>
    /// <param name="lengths">[rows] values of each sample's first sequence, asked for at each forward.</param>
    public GrecSequenceHead(LayerContext context, SlotSums sums, GrecDescription grec, SequenceFactor[] sequences, int positions, Func<nint> lengths)
    {
        _lengths = lengths;
        _positions = positions;
        _sums = sums;
        _sequences = sequences;
        _padded = grec.Padding == SequencePadding.FirstRow;
        LayerContext tokens = context.Times(positions);
        long dimension = sequences[0].Output.Columns;
        Slot x = sequences[0].Output;
        for (int i = 1; i < sequences.Length; i++)
        {
            GatedProduct product = new(tokens, $"sequence.product.{i}", x, sequences[i].Output, ActivationKind.None);
            _products.Add(product);
            x = product.Output;
        }

        _embedded = x;
        int width = grec.Width;
        if (dimension != width)
        {
            x = tokens.ReserveExact("sequence.wide", width);
            _widen = new(tokens, new()
            {
                Groups = 1,
                N = width,
                K = dimension,
                Input = GroupInput.Shared,
                X = _embedded,
                Y = x,
                Weight = context.Parameters.Add("sequence.widen.weight", ParameterKind.Weight, width, dimension),
            });
        }

        for (int i = 0; i < grec.Blocks; i++)
        {
            ParallelBlock block = new(context, sums, new()
            {
                Name = $"sequence.blocks.{i}",
                X = x,
                Tokens = positions,
                Heads = grec.Heads,
                HeadWidth = grec.HeadWidth ?? width / grec.Heads,
                FeedForward = grec.FeedForward ?? 4 * width,
                Residual = true,
            });
            _blocks.Add(block);
            x = block.Output;
        }

        // Equal scores make the mean of the values that are seen; scores that are the values themselves make a smooth maximum, column by column.
        Slot ones = Slot.ReserveExact(context.Activations, "sequence.ones", context.MaxRows, width, width);
        context.OnBind(() => _ones = ones.Pointer);
        AttentionPlan pool = new() { Name = "sequence.mean", Q = ones, K = x, V = x, Heads = width, KeyHeads = width, HeadWidth = 1, Queries = 1, Keys = positions, Scale = 0 };
        _mean = new(context, width <= MaxHeadWidth ? pool with { Heads = 1, KeyHeads = 1, HeadWidth = width } : pool);
        if (grec.Pooling == SequencePooling.MeanMax)
            _maximum = new(context, pool with { Name = "sequence.maximum", Scale = MaximumScale });
        else if (grec.Pooling == SequencePooling.MeanHardMax)
            _hardMaximum = new(context, "sequence.hard_maximum", x, positions);
        int parts = grec.Pooling == SequencePooling.Mean ? 1 : 2;
        _pooled = context.ReserveExact("sequence.pooled", (long)width * parts);
        _output = new(context, new()
        {
            Name = "sequence.output",
            Groups = 1,
            Widths = [width, width],
            Activation = ActivationKind.None,
            X = _pooled,
            InputWidth = _pooled.Columns,
            Input = GroupInput.Shared,
        });
        Output = context.ReserveExact("sequence.token", width);
        context.OnBind(() => FillOnes(width));
        if (!context.Training)
            return;
        OutputGradient = context.ReserveExact("sequence.token_gradient", width);
        _pooledGradient = context.ReserveExact("sequence.pooled_gradient", _pooled.Columns);
        _meanQueryGradient = context.ReserveExact("sequence.mean_query_gradient", width);
        _maximumQueryGradient = context.ReserveExact("sequence.maximum_query_gradient", width);
        _keyGradient = tokens.ReserveExact("sequence.key_gradient", width);
        _valueGradient = tokens.ReserveExact("sequence.value_gradient", width);
        _embeddedGradient = tokens.ReserveExact("sequence.embedded_gradient", Math.Max(width, dimension));

        void FillOnes(int columns)
        {
            float[] values = new float[context.MaxRows * columns];
            Array.Fill(values, 1f);
            context.Stream.CopyToDevice<float>(values, _ones);
        }
    }

    public override Slot Output { get; }

    public override Slot OutputGradient { get; } = null!;

    public override void Initialize()
    {
        foreach (ParallelBlock block in _blocks)
            block.Initialize();
    }

    public override void Pack()
    {
        _widen?.Pack();
        foreach (ParallelBlock block in _blocks)
            block.Pack();
        _output.Pack();
    }

    public override void Forward(long rows)
    {
        int* lengths = (int*)_lengths();
        int* pooled = _padded ? null : lengths;
        foreach (SequenceFactor sequence in _sequences)
            sequence.Forward(rows);
        foreach (GatedProduct product in _products)
            product.Forward(rows * _positions);
        _widen?.Forward(rows * _positions);
        foreach (ParallelBlock block in _blocks)
            block.Forward(rows, lengths);
        long width = Output.Columns;
        _mean.Forward(rows, pooled);
        _sums.Copy(rows, _mean.Output, _pooled.Slice(0, width));
        if (_maximum != null)
        {
            _maximum.Forward(rows, pooled);
            _sums.Copy(rows, _maximum.Output, _pooled.Slice(width, width));
        }
        else if (_hardMaximum != null)
        {
            _hardMaximum.Forward(rows, pooled);
            _sums.Copy(rows, _hardMaximum.Output, _pooled.Slice(width, width));
        }

        _output.Forward(rows);
        _sums.Copy(rows, _output.Output, Output);
    }

    public override void Backward(long rows, Slot? row)
    {
        long width = Output.Columns, tokens = rows * _positions;
        _sums.Copy(rows, OutputGradient, _output.OutputGradient);
        _output.Backward(rows);
        _output.BackwardInput(rows, new(_pooledGradient!, Accumulate: false, Below: null, ActivationKind.None));
        _sums.Copy(rows, _pooledGradient!.Slice(0, width), _mean.OutputGradient);
        Slot dx = _blocks.Count > 0 ? _blocks[^1].OutputGradient : Narrow(_embeddedGradient!, width);
        _mean.Backward(rows, _meanQueryGradient!, _keyGradient!, dx);
        if (_maximum != null)
        {
            _sums.Copy(rows, _pooledGradient.Slice(width, width), _maximum.OutputGradient);
            _maximum.Backward(rows, _maximumQueryGradient!, _keyGradient!, _valueGradient!);
            _sums.Add(tokens, _keyGradient!, dx);
            _sums.Add(tokens, _valueGradient!, dx);
        }
        else if (_hardMaximum != null)
        {
            _sums.Copy(rows, _pooledGradient.Slice(width, width), _hardMaximum.OutputGradient);
            _hardMaximum.Backward(rows, _valueGradient!);
            _sums.Add(tokens, _valueGradient!, dx);
        }

        for (int i = _blocks.Count - 1; i >= 0; i--)
        {
            dx = i > 0 ? _blocks[i - 1].OutputGradient : Narrow(_embeddedGradient!, width);
            _blocks[i].Backward(rows, dx);
        }

        BackwardEmbedded(rows, dx, row);
    }

    private static Slot Narrow(Slot slot, long columns) => slot.Reshape(columns, columns);

    private void BackwardEmbedded(long rows, Slot dx, Slot? row)
    {
        long tokens = rows * _positions;
        _widen?.BackwardWeights(tokens, dx);
        if (row == null)
            return;
        Slot first = _sequences[0].OutputGradient;
        Slot target = _products.Count > 0 ? _products[^1].OutputGradient : first;
        if (_widen != null)
            _widen.BackwardInput(tokens, dx, new(target, Accumulate: false, Below: null, ActivationKind.None));
        else
            _sums.Copy(tokens, dx, target);
        for (int i = _products.Count - 1; i >= 0; i--)
        {
            Slot below = i > 0 ? _products[i - 1].OutputGradient : first;
            _products[i].Backward(tokens, below, _sequences[i + 1].OutputGradient);
        }

        foreach (SequenceFactor sequence in _sequences)
            sequence.Backward(rows, row);
    }
}
