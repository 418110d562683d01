using CudaMoE.Layers;
using CudaMoE.Tensors;

namespace CudaMoE.Streaming.Xsmoe;

/// <summary>
/// The side ladder of a modality: x_0 is the frozen encoder's embedding output, layer j mixes x_(j-1), through its experts, with the encoder's state at
/// its layer. No gradient
/// reaches the encoder: the lowest layer's input gradient is not computed.
/// </summary>
internal sealed unsafe class SideLadder
{
    private readonly SideLayer[] _layers;
    private readonly DenseColumns[] _states;
    private readonly Slot _output;
    private readonly UploadBuffer? _upload;
    private readonly int _width;

    /// <param name="context">The context whose rows are items.</param>
    /// <param name="scratch">Work space.</param>
    /// <param name="shape">The ladder.</param>
    /// <param name="adapter">Width of an expert's bottleneck.</param>
    /// <param name="output">[rows, width] where the highest layer writes.</param>
    public SideLadder(LayerContext context, Scratch scratch, SideShape shape, int adapter, Slot output)
    {
        _output = output;
        _width = shape.Width;
        _layers = [.. shape.Layers.Select((experts, j) => new SideLayer(context, scratch, $"{shape.Name}.layers.{j}", shape.Width, adapter, experts))];
        _states =
        [
            new(context, shape.Width, _layers[0].X),
            .. _layers.Select(layer => new DenseColumns(context, shape.Width, layer.H)),
        ];
        if (!context.Device.Info.HostAccessible)
            _upload = context.Own(new UploadBuffer(context.Stream, LayerContext.StepsAhead));
    }

    /// <summary>The layers, the lowest first.</summary>
    public IReadOnlyList<SideLayer> Layers => _layers;

    public void Pack()
    {
        foreach (SideLayer layer in _layers)
            layer.Pack();
    }

    /// <summary>Loads states and runs the ladder.</summary>
    /// <param name="rows">Items.</param>
    /// <param name="states">[1 + layers, rows, width] the embedding output and the state at each layer.</param>
    public void Forward(long rows, ReadOnlySpan<float> states)
    {
        long part = rows * _width;
        fixed (float* host = states)
        {
            float* source = host;
            if (_upload != null)
            {
                long bytes = part * _states.Length * sizeof(float);
                Buffer.MemoryCopy(host, _upload.Begin(bytes), bytes, bytes);
                source = (float*)_upload.Commit();
            }

            for (int i = 0; i < _states.Length; i++)
            {
                _states[i].Load(source + (i * part), rows);
                _states[i].Run();
            }
        }

        for (int j = 0; j < _layers.Length; j++)
            _layers[j].Forward(rows, j + 1 < _layers.Length ? _layers[j + 1].X : _output);
    }

    /// <summary>Gradients of the parameters.</summary>
    /// <param name="rows">Items.</param>
    /// <param name="dy">[rows, width] gradient of the output.</param>
    public void Backward(long rows, Slot dy)
    {
        for (int j = _layers.Length - 1; j >= 0; j--)
        {
            _layers[j].Backward(rows, dy, inputGradient: j > 0);
            dy = _layers[j].XGradient;
        }
    }
}
