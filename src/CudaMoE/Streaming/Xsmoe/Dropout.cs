using CudaMoE.Interop;
using CudaMoE.Layers;
using CudaMoE.Tensors;

namespace CudaMoE.Streaming.Xsmoe;

/// <summary>
/// Dropout (Srivastava et al. 2014): in training a number is 0 with the given probability and else divided by what is left of 1. What is dropped follows
/// from seed, step, place and
/// element alone, so a run that is broken off and goes on drops the same. The masks are made on the host and uploaded: 4 bytes an element.
/// </summary>
internal sealed unsafe class Dropout
{
    private readonly LayerContext _context;
    private readonly Slot _x;
    private readonly float _rate;
    private readonly ulong _key;
    private readonly UploadBuffer? _upload;
    private readonly Slot? _dropped;
    private float* _mask;

    /// <param name="context">The context whose rows are those of <paramref name="x"/>.</param>
    /// <param name="name">Name of its buffer, unique.</param>
    /// <param name="x">[rows, width].</param>
    /// <param name="rate">The probability, 0 to below 1.</param>
    /// <param name="seed">The seed.</param>
    /// <param name="place">Number of this layer in the model.</param>
    public Dropout(LayerContext context, string name, Slot x, float rate, ulong seed, int place)
    {
        _context = context;
        _x = x;
        _rate = rate;
        _key = Mix(seed + (0x9E3779B97F4A7C15 * (ulong)(place + 1)));
        if (rate == 0)
            return;
        _dropped = Slot.ReserveExact(context.Activations, $"{name}.dropped", context.MaxRows, x.Columns, x.RowStride);
        _upload = context.Own(new UploadBuffer(context.Stream, LayerContext.StepsAhead));
    }

    /// <summary>Whether it drops in training.</summary>
    public bool Active => _rate > 0;

    /// <summary>Writes 0 or 1 / (1 - rate) for each element of a matrix, element i of the step.</summary>
    public static void Fill(Span<float> mask, float rate, ulong seed, int place, long step) =>
        Fill(mask, rate, Mix(seed + (0x9E3779B97F4A7C15 * (ulong)(place + 1))), step);

    /// <summary>The output of a step.</summary>
    /// <param name="rows">Rows.</param>
    /// <param name="step">The step, from 1; below 0 nothing is dropped.</param>
    /// <returns>Where the output is: the input itself when nothing is dropped.</returns>
    public Slot Forward(long rows, long step)
    {
        if (!Active || step < 0)
            return _x;
        long count = rows * _x.RowStride;
        float* mask = (float*)_upload!.Begin(count * sizeof(float));
        Fill(new Span<float>(mask, checked((int)count)), _rate, _key, step);
        _mask = (float*)_upload.Commit();
        Multiply(count, _x, _dropped!);
        return _dropped!;
    }

    /// <summary>dx = mask times dy, with the mask of the last forward in training; the two may not overlap and have the strides of the input.</summary>
    public void Backward(long rows, Slot dy, Slot dx) => Multiply(rows * _x.RowStride, dy, dx);

    private static void Fill(Span<float> mask, float rate, ulong key, long step)
    {
        ulong state = Mix(key ^ Mix((ulong)step));
        uint threshold = (uint)Math.Round(rate * 65536.0);
        float kept = 65536f / (65536 - threshold);
        for (int i = 0; i < mask.Length; i += 4)
        {
            ulong bits = Mix(state + (0x9E3779B97F4A7C15 * (ulong)i));
            for (int j = i; j < Math.Min(i + 4, mask.Length); j++, bits >>= 16)
                mask[j] = (bits & 0xFFFF) < threshold ? 0 : kept;
        }
    }

    private static ulong Mix(ulong value)
    {
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
        return value ^ (value >> 31);
    }

    /// <summary>An element-wise product is the combination of one expert of width 1 a row.</summary>
    private void Multiply(long count, Slot from, Slot to)
    {
        CombineForwardArgs args = new()
        {
            StructSize = (uint)sizeof(CombineForwardArgs),
            Tasks = 1,
            Rows = count,
            Width = 1,
            Choices = 1,
            Gates = _mask,
            Expert = from.Data,
            ExpertRowStride = 1,
            ExpertStride = 1,
            Y = to.Data,
            YRowStride = 1,
            YTaskStride = 1,
        };
        NativeStatus.Check(NativeMethods.CombineForward(_context.Stream.Native, &args));
    }
}
