using CudaMoE.Description;
using CudaMoE.Interop;
using CudaMoE.Layers;
using CudaMoE.Tensors;

namespace CudaMoE.Streaming.Xsmoe;

/// <summary>
/// XSMoE (arXiv 2508.05993): frozen states of each modality through a side ladder, a fusion layer to item vectors, a SASRec-like user encoder, scores by
/// inner products, and the in-batch softmax loss with
/// popularity correction. Each item of a batch goes through the ladders once.
/// </summary>
/// <remarks>Not thread-safe. The numbers of experts are fixed; a model that grew is built anew from the weights of the old one.</remarks>
internal sealed unsafe class XsmoeModel : IDisposable
{
    // Scores of a ranking that are in memory at a time.
    private const long RankedScores = 1 << 24;

    private readonly LayerContext _context;
    private readonly LayerContext _tokens;
    private readonly IReadOnlyList<FrozenStates> _states;
    private readonly SideLadder[] _ladders;
    private readonly Slot _fused;
    private readonly Slot _fusedGradient;
    private readonly Linear _fusion;
    private readonly Slot _vectors;
    private readonly Slot _vectorGradient;
    private readonly ParameterBlock _positions;
    private readonly Slot _input;
    private readonly Slot _inputGradient;
    private readonly UserEncoder _users;
    private readonly InBatchLoss _loss;
    private readonly XsmoeOptimizer _optimizer;
    private readonly XsmoeDeviceBatch _batch;
    private readonly Products _ranking;
    private readonly Slot _lastUsers;
    private readonly Slot _scores;
    private readonly float[][] _gathered;
    private nint _table;
    private int _tableItems;

    /// <param name="device">The device.</param>
    /// <param name="shape">The shape.</param>
    /// <param name="states">The states of each side.</param>
    public XsmoeModel(Device device, XsmoeShape shape, IReadOnlyList<FrozenStates> states)
    {
        Shape = shape;
        _states = states;
        _context = new(device, shape.Precision, activationSlope: 0, shape.Optimizer, shape.MaxSequences, training: true);
        try
        {
            _tokens = _context.Times(shape.History);
            LayerContext items = _context.Times(shape.History + 1);
            Scratch scratch = new(_context);
            int fusedWidth = shape.Sides.Sum(side => side.Width);
            _fused = items.Reserve("fusion.input", fusedWidth);
            _fusedGradient = items.Reserve("fusion.input_gradient", fusedWidth);
            int column = 0;
            _ladders = new SideLadder[shape.Sides.Count];
            for (int i = 0; i < _ladders.Length; i++)
            {
                _ladders[i] = new(items, scratch, shape.Sides[i], shape.Adapter, _fused.Slice(column, shape.Sides[i].Width));
                column += shape.Sides[i].Width;
            }

            _vectors = items.ReserveExact("items", shape.Hidden);
            _vectorGradient = items.ReserveExact("items.gradient", shape.Hidden);
            _fusion = new(items, new()
            {
                Groups = 1,
                N = shape.Hidden,
                K = fusedWidth,
                Input = GroupInput.Shared,
                X = _fused,
                Y = _vectors,
                Weight = _context.Parameters.Add("fusion.weight", ParameterKind.Weight, shape.Hidden, fusedWidth),
                Bias = _context.Parameters.Add("fusion.bias", ParameterKind.Bias, shape.Hidden),
            });
            _positions = _context.Parameters.Add("user.positions", ParameterKind.Embedding, shape.History, shape.Hidden);
            _input = _tokens.Reserve("user.input", shape.Hidden);
            _inputGradient = _tokens.Reserve("user.input_gradient", shape.Hidden);
            _users = new(_context, shape, _input);
            _loss = new(_tokens, scratch, shape.MaxItems, _users.Output, _users.OutputGradient, _vectors, _vectorGradient);
            _optimizer = new(_context, shape.Optimizer, () => _ladders.SelectMany(ladder => ladder.Layers).SelectMany(layer => layer.Trained()));
            _batch = new(_context);
            RankedSequences = (int)Math.Clamp(RankedScores / shape.TableItems, 1, shape.MaxSequences);
            _ranking = new(_context, scratch, "ranking", shape.TableItems, shape.Hidden);
            _context.Activations.Reserve("ranking.table", (long)shape.TableItems * shape.Hidden * sizeof(float), p => _table = p);
            _lastUsers = Slot.Reserve(_context.Activations, "ranking.users", RankedSequences, shape.Hidden);
            _scores = Slot.ReserveExact(_context.Activations, "ranking.scores", RankedSequences, shape.TableItems, shape.TableItems);
            _gathered = [.. shape.Sides.Select(side => new float[checked((side.Layers.Count + 1) * shape.MaxItems * side.Width)])];
            _context.Commit();
        }
        catch
        {
            _context.Dispose();
            throw;
        }
    }

    public XsmoeShape Shape { get; }

    public Device Device => _context.Device;

    public DeviceStream Stream => _context.Stream;

    public IReadOnlyList<Parameter> Parameters => _context.Parameters.All;

    /// <summary>Elements from one row of scores of the loss to the next.</summary>
    public long ScoreStride => _loss.Stride;

    /// <summary>Sequences that one call of <see cref="Score"/> takes.</summary>
    public int RankedSequences { get; }

    /// <summary>The side ladders' layers.</summary>
    public IReadOnlyList<SideLayer> Layers(int side) => _ladders[side].Layers;

    /// <summary>Sets the scales of layer norms, which are 1 at first; other parameters begin at 0.</summary>
    public void InitializeNorms() => _users.Initialize();

    /// <summary>Must be called after parameters were changed from outside.</summary>
    public void ParametersChanged()
    {
        foreach (SideLadder ladder in _ladders)
            ladder.Pack();
        _fusion.Pack();
        _users.Pack();
        _tableItems = 0;
    }

    /// <summary>The loss of a batch: the mean over all rows with an item. A batch with one item only has loss 0.</summary>
    /// <param name="batch">At most <see cref="XsmoeShape.MaxSequences"/> sequences.</param>
    /// <param name="step">Counts the steps of the whole run, for dropout; below 0 nothing is dropped.</param>
    public double Loss(XsmoeBatch batch, long step)
    {
        if (batch.Items.Length < 2)
            return 0;
        _batch.Load(batch);
        EncodeItems(batch.Items);
        RowGather.Run(_context, batch.Rows, batch.Items.Length, batch.InputItems.Length, _batch.InputOffsets, _batch.InputItems, _vectors.Data, _vectors.RowStride, _input, accumulate: false);
        AddPositions(batch);
        _users.Forward(batch.Sequences, _batch.Lengths, step);
        _loss.Forward(batch, _batch);
        return _loss.Value();
    }

    /// <summary>The gradients of all parameters but the frozen ones, of the batch that <see cref="Loss"/> ran on.</summary>
    public void Backward(XsmoeBatch batch)
    {
        if (batch.Items.Length < 2)
            return;
        _loss.Backward(batch);
        _users.Backward(batch.Sequences, _inputGradient);
        int edges = batch.InputItems.Length;
        Slot positionGradient = Slot.At((nint)_positions.Gradient, Shape.Hidden);
        RowGather.Run(_context, Shape.History, batch.Rows, edges, _batch.PositionOffsets, _batch.PositionRows, _inputGradient.Data, _inputGradient.RowStride, positionGradient, accumulate: false);
        RowGather.Run(_context, batch.Items.Length, batch.Rows, edges, _batch.ItemOffsets, _batch.ItemRows, _inputGradient.Data, _inputGradient.RowStride, _vectorGradient, accumulate: true);
        long items = batch.Items.Length;
        _fusion.BackwardWeights(items, _vectorGradient);
        _fusion.BackwardInput(items, _vectorGradient, new(_fusedGradient, Accumulate: false, Below: null, ActivationKind.None));
        int column = 0;
        foreach ((SideLadder ladder, SideShape side) in _ladders.Zip(Shape.Sides))
        {
            ladder.Backward(items, _fusedGradient.Slice(column, side.Width));
            column += side.Width;
        }
    }

    /// <summary>Changes the parameters by their gradients.</summary>
    /// <param name="learningRate">The learning rate.</param>
    /// <param name="step">Counts from 1 since the model was built.</param>
    public void Update(float learningRate, long step)
    {
        _optimizer.Step(learningRate, step);
        ParametersChanged();
    }

    /// <summary>Runs items through ladders and fusion; their vectors are then in the first rows of the item vectors.</summary>
    public void EncodeItems(ReadOnlySpan<int> items)
    {
        for (int i = 0; i < _ladders.Length; i++)
        {
            Span<float> states = _gathered[i].AsSpan(0, (Shape.Sides[i].Layers.Count + 1) * items.Length * Shape.Sides[i].Width);
            _states[i].Gather(items, states);
            _ladders[i].Forward(items.Length, states);
        }

        _fusion.Forward(items.Length);
    }

    /// <summary>Computes the vectors of items 1 to <paramref name="largestItem"/> for <see cref="Score"/>; padding has zeros.</summary>
    public void BuildTable(int largestItem)
    {
        long rowBytes = (long)Shape.Hidden * sizeof(float);
        Stream.Fill(_table, 0, rowBytes);
        for (int first = 1; first <= largestItem; first += Shape.MaxItems)
        {
            int[] items = [.. Enumerable.Range(first, Math.Min(Shape.MaxItems, largestItem + 1 - first))];
            EncodeItems(items);
            Stream.CopyOnDevice(_vectors.Pointer, _table + (nint)(first * rowBytes), items.Length * rowBytes);
        }

        _tableItems = largestItem + 1;
        _ranking.Pack((float*)_table, _tableItems);
    }

    /// <summary>The scores of all items of the table for the user of each sequence, from all of its items but the last.</summary>
    /// <param name="batch">Sequences for ranking, at most <see cref="RankedSequences"/>, with items of the table only.</param>
    /// <param name="scores">[sequences, largest item + 1].</param>
    public void Score(XsmoeBatch batch, Span<float> scores)
    {
        if (_tableItems == 0)
            throw new InvalidOperationException("the table of item vectors is not up to date; build it first");
        _batch.Load(batch);
        RowGather.Run(_context, batch.Rows, _tableItems, batch.InputItems.Length, _batch.InputOffsets, _batch.InputItems, (float*)_table, Shape.Hidden, _input, accumulate: false);
        AddPositions(batch);
        _users.Forward(batch.Sequences, _batch.Lengths, step: -1);
        RowGather.Run(_context, batch.Sequences, batch.Rows, batch.Sequences, _batch.LastOffsets, _batch.LastRows, _users.Output.Data, _users.Output.RowStride, _lastUsers, accumulate: false);
        _ranking.Forward(batch.Sequences, _lastUsers.Data, _lastUsers.RowStride, null, _scores.Data, _tableItems);
        Stream.CopyToHost<float>(_scores.Pointer, scores[..(batch.Sequences * _tableItems)]);
    }

    /// <summary>The values of a parameter.</summary>
    public float[] Read(Parameter parameter)
    {
        float[] values = new float[parameter.Count];
        Stream.CopyToHost<float>(parameter.Value, values);
        return values;
    }

    /// <summary>The vectors of the table's items, [largest item + 1, hidden].</summary>
    public float[] ReadTable()
    {
        float[] values = new float[_tableItems * Shape.Hidden];
        Stream.CopyToHost<float>(_table, values);
        return values;
    }

    /// <summary>The users' vectors of the last batch, [sequences * history, hidden]; rows without an item hold nothing of use.</summary>
    public float[] ReadUsers(int sequences)
    {
        Slot users = _users.Output;
        float[] values = new float[sequences * Shape.History * Shape.Hidden];
        for (int row = 0; row < sequences * Shape.History; row++)
            Stream.CopyToHost(users.Pointer + (nint)(row * users.RowStride * sizeof(float)), values.AsSpan(row * Shape.Hidden, Shape.Hidden));
        return values;
    }

    /// <inheritdoc/>
    public void Dispose() => _context.Dispose();

    private void AddPositions(XsmoeBatch batch) => RowGather.Run(
        _context, batch.Rows, Shape.History, batch.InputItems.Length, _batch.InputOffsets, _batch.InputPositions, _positions.Value, Shape.Hidden, _input, accumulate: true);
}

/// <summary>Rows of a matrix by number, and the sums that are its backward: sums over the edges of a matrix in CSR form, all of weight 1.</summary>
internal static unsafe class RowGather
{
    /// <summary>y[r] (+)= sum over the edges e of row r of x[neighbours[e]].</summary>
    public static void Run(
        LayerContext context, long rows, long columns, long edges, long* offsets, int* neighbours, float* x, long xStride, Slot y, bool accumulate)
    {
        GraphAggregateArgs args = new()
        {
            StructSize = (uint)sizeof(GraphAggregateArgs),
            Accumulate = accumulate ? 1 : 0,
            Rows = rows,
            Columns = columns,
            Edges = edges,
            Width = y.Columns,
            Offsets = offsets,
            Neighbours = neighbours,
            X = x,
            XRowStride = xStride,
            Y = y.Data,
            YRowStride = y.RowStride,
        };
        NativeStatus.Check(NativeMethods.GraphAggregate(context.Stream.Native, &args));
    }
}
