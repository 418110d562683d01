using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>Copies the numbers of a batch, rows without gaps, to columns of the feature row.</summary>
internal sealed unsafe class DenseColumns
{
    private readonly LayerContext _context;
    private readonly int _width;
    private readonly Slot _target;
    private nint _ones;
    private CombineForwardArgs _args;

    /// <param name="context">The context.</param>
    /// <param name="width">Numbers of a row.</param>
    /// <param name="target">[rows, width].</param>
    public DenseColumns(LayerContext context, int width, Slot target)
    {
        _context = context;
        _width = width;
        _target = target;
        if (width == 0 || context.Device.Info.HostAccessible)
            return;
        context.Activations.Reserve("features.ones", (long)context.MaxRows * sizeof(float), p => _ones = p);
        context.OnBind(Bind);
    }

    /// <summary>Takes a batch. Where the host can write the columns it does so here, else <see cref="Run"/> does it on the device.</summary>
    public void Load(float* source, long rows)
    {
        _args.Rows = rows;
        _args.Expert = source;
        if (_width == 0 || !_context.Device.Info.HostAccessible)
            return;
        float* target = _target.Data;
        long bytes = (long)_width * sizeof(float);
        for (long row = 0; row < rows; row++, source += _width, target += _target.RowStride)
            Buffer.MemoryCopy(source, target, bytes, bytes);
    }

    public void Run()
    {
        if (_width == 0 || _context.Device.Info.HostAccessible)
            return;
        fixed (CombineForwardArgs* args = &_args)
            NativeStatus.Check(NativeMethods.CombineForward(_context.Stream.Native, args));
    }

    /// <summary>A copy with strides is the combination of one expert with weight 1.</summary>
    private void Bind()
    {
        float[] ones = new float[_context.MaxRows];
        Array.Fill(ones, 1f);
        _context.Stream.CopyToDevice<float>(ones, _ones);
        _args = new()
        {
            StructSize = (uint)sizeof(CombineForwardArgs),
            Tasks = 1,
            Width = _width,
            Choices = 1,
            Gates = (float*)_ones,
            ExpertRowStride = _width,
            ExpertStride = _width,
            Y = _target.Data,
            YRowStride = _target.RowStride,
            YTaskStride = _width,
        };
    }
}
