using CudaMoE.Interop;
using CudaMoE.Layers;

namespace CudaMoE.Streaming.Xsmoe;

/// <summary>
/// The in-batch softmax of XSMoE and IISAN: score(q, c) = u_q . e_c - ln popularity(c) over the items of the batch, those of q's own user left out except
/// the target; the loss is the mean cross entropy
/// over the rows with an item.
/// </summary>
/// <remarks>
/// The scores come from one product with the columns' numbers as its bias. What is left out, and what a column that stands for several places counts too
/// much for its target, differs from row to row: at most L + 1 scores of a row, which a sparse
/// update (rows of width 1, plain gradient descent of rate 1) corrects. No matrix of masks is made.
/// </remarks>
internal sealed unsafe class InBatchLoss
{
    private readonly LayerContext _context;
    private readonly Scratch _scratch;
    private readonly Slot _users;
    private readonly Slot _userGradient;
    private readonly Slot _items;
    private readonly Slot _itemGradient;
    private readonly Slot _scores;
    private readonly Slot _scoreGradient;
    private readonly Products _products;
    private readonly HostReadable<double> _results;

    /// <param name="context">The context whose rows are places of sequences.</param>
    /// <param name="scratch">Work space.</param>
    /// <param name="maxItems">The most items of a batch.</param>
    /// <param name="users">[rows, hidden].</param>
    /// <param name="userGradient">Receives the gradient of <paramref name="users"/>.</param>
    /// <param name="items">[items, hidden].</param>
    /// <param name="itemGradient">Receives the gradient of <paramref name="items"/>.</param>
    public InBatchLoss(LayerContext context, Scratch scratch, int maxItems, Slot users, Slot userGradient, Slot items, Slot itemGradient)
    {
        _context = context;
        _scratch = scratch;
        _users = users;
        _userGradient = userGradient;
        _items = items;
        _itemGradient = itemGradient;
        _scores = context.Reserve("loss.scores", maxItems);
        _scoreGradient = context.Reserve("loss.score_gradient", maxItems);
        _products = new(context, scratch, "loss.items", maxItems, items.Columns, items.RowStride);
        _results = new(context, "loss.results", 2);
    }

    /// <summary>Elements from one row of scores to the next.</summary>
    public long Stride => _scores.RowStride;

    /// <summary>The last batch's loss.</summary>
    public double Value() => _results.Read()[0];

    public void Forward(XsmoeBatch batch, XsmoeDeviceBatch device)
    {
        _products.Pack(_items.Data, batch.Items.Length);
        _products.Forward(batch.Rows, _users.Data, _users.RowStride, device.ColumnBias, _scores.Data, Stride);
        Correct(batch, device);
        LossTask task = new()
        {
            Logits = _scores.Data,
            LogitsRowStride = Stride,
            Labels = device.Labels,
            LabelsStride = 1,
            WeightsStride = 1,
            Dlogits = _scoreGradient.Data,
            DlogitsRowStride = _scoreGradient.RowStride,
            Kind = NativeConstants.LossSoftmax,
            Classes = batch.Items.Length,
            Scale = 1,
        };
        LossArgs args = new()
        {
            StructSize = (uint)sizeof(LossArgs),
            TaskCount = 1,
            Rows = batch.Rows,
            Tasks = &task,
            Losses = _results.Device,
            WeightSums = _results.Device + 1,
        };
        long bytes;
        NativeStatus.Check(NativeMethods.LossWorkspace(_context.Stream.Native, &args, &bytes));
        args.Workspace = _scratch.Need(bytes);
        args.WorkspaceBytes = _scratch.Bytes;
        NativeStatus.Check(NativeMethods.Loss(_context.Stream.Native, &args));
        _results.Written();
    }

    /// <summary>Writes the gradients of user and item vectors.</summary>
    public void Backward(XsmoeBatch batch)
    {
        _products.Transposed(batch.Rows, _scoreGradient.Data, _scoreGradient.RowStride, _userGradient.Data, _userGradient.RowStride, accumulate: false);
        _products.Gradient(
            batch.Rows, _scoreGradient.Data, _scoreGradient.RowStride, batch.Items.Length, _users.Data, _users.RowStride, _itemGradient.Data, _itemGradient.RowStride);
    }

    private void Correct(XsmoeBatch batch, XsmoeDeviceBatch device)
    {
        int count = batch.CorrectionPlaces.Length;
        if (count == 0)
            return;
        EmbeddingTable table = new() { Weights = _scores.Data, Rows = batch.Rows * Stride, RowStride = 1, Dim = 1 };
        EmbeddingFeature feature = new() { Ids = device.CorrectionPlaces, BagSize = 1, Lookups = count };
        EmbeddingUpdateArgs args = new()
        {
            StructSize = (uint)sizeof(EmbeddingUpdateArgs),
            TableCount = 1,
            FeatureCount = 1,
            Batch = count,
            Tables = &table,
            Features = &feature,
            Gradient = device.CorrectionValues,
            GradientRowStride = 1,
            LearningRate = 1,
            Epsilon = 1e-8f,
            Beta1 = 0.9f,
            Beta2 = 0.999f,
            GradientScale = 1,
            Step = 1,
        };
        long bytes;
        NativeStatus.Check(NativeMethods.EmbeddingUpdateWorkspace(_context.Stream.Native, &args, &bytes));
        args.Workspace = _scratch.Need(bytes);
        args.WorkspaceBytes = _scratch.Bytes;
        NativeStatus.Check(NativeMethods.EmbeddingUpdate(_context.Stream.Native, &args));
    }
}
