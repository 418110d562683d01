using CudaMoE.Description;
using CudaMoE.Interop;
using CudaMoE.Tensors;

namespace CudaMoE.Layers;

/// <summary>
/// What layers share while a model is built and run: the device, the parameters, one arena of activations and gradients sized for the
/// largest batch, and one work space. Layers are made (they reserve), the context commits, layers bind (they learn addresses and ask for
/// work space), then they run.
/// </summary>
internal sealed unsafe class LayerContext : IDisposable
{
    /// <summary>Steps that the host may queue before it waits for a device whose memory it cannot read.</summary>
    public const int StepsAhead = 8;

    private readonly LayerContext? _root;
    private readonly List<Action> _bindings = [];
    private readonly List<Action> _disposals = [];
    private readonly List<Action> _replays = [];
    private DeviceBuffer? _workspace;
    private long _workspaceBytes;
    private nint _workspacePointer;
    private StepNumbers* _stepOnDevice;

    public LayerContext(Device device, ModelDescription description, int maxRows, bool training)
        : this(device, description.Architecture.Precision, description.Architecture.ActivationSlope, description.Training.Optimizer, maxRows, training)
    {
    }

    public LayerContext(Device device, Precision precision, float activationSlope, OptimizerDescription optimizer, int maxRows, bool training)
    {
        Device = device;
        Stream = device.CreateStream();
        MaxRows = maxRows;
        Training = training;
        Precision = precision;
        ActivationSlope = activationSlope;
        Parameters = new ParameterSet(device, training, optimizer);
    }

    private LayerContext(LayerContext parent, int maxRows)
    {
        _root = parent._root ?? parent;
        Device = parent.Device;
        Stream = parent.Stream;
        MaxRows = maxRows;
        Training = parent.Training;
        Precision = parent.Precision;
        ActivationSlope = parent.ActivationSlope;
        Parameters = parent.Parameters;
        Activations = parent.Activations;
        Packed = parent.Packed;
    }

    public Device Device { get; }

    public DeviceStream Stream { get; }

    /// <summary>Where noisy gates read the number of a training step, in device memory; null where the number that they are called with counts.</summary>
    public StepNumbers* StepOnDevice
    {
        get => (_root ?? this)._stepOnDevice;
        set => (_root ?? this)._stepOnDevice = value;
    }

    public ParameterSet Parameters { get; }

    public Arena Activations { get; } = new();

    public Arena Packed { get; } = new();

    public int MaxRows { get; }

    public bool Training { get; }

    public Precision Precision { get; }

    public float ActivationSlope { get; }

    public nint Workspace => Root._workspacePointer;

    public long WorkspaceBytes => Root._workspaceBytes;

    private LayerContext Root => _root ?? this;

    /// <summary>The same context for layers that run on several rows a sample, e.g. one for each token: all is shared but <see cref="MaxRows"/>.</summary>
    /// <param name="rowsPerRow">Rows for each row of this context.</param>
    public LayerContext Times(int rowsPerRow) => rowsPerRow == 1 ? this : new(this, checked(MaxRows * rowsPerRow));

    /// <summary>The same context for layers that run on rows that are not the batch's, e.g. nodes that all samples share.</summary>
    /// <param name="rows">The most rows.</param>
    public LayerContext WithRows(int rows) => new(this, rows);

    /// <summary>Runs <paramref name="bind"/> once all addresses are known.</summary>
    public void OnBind(Action bind) => Root._bindings.Add(bind);

    /// <summary>Runs <paramref name="replayed"/> whenever captured operations have run again, which layers do not see.</summary>
    public void OnReplay(Action replayed) => Root._replays.Add(replayed);

    /// <summary>How often captured operations were run again.</summary>
    public long Replays { get; private set; }

    /// <summary>Must be called when captured operations were run again.</summary>
    public void Replayed()
    {
        Replays++;
        foreach (Action replayed in _replays)
            replayed();
    }

    /// <summary>Makes the shared work space at least that large; only while binding.</summary>
    public void NeedWorkspace(long bytes) => Root._workspaceBytes = Math.Max(Root._workspaceBytes, bytes);

    /// <summary>Disposes it with the context.</summary>
    public T Own<T>(T item)
        where T : IDisposable
    {
        Root._disposals.Add(item.Dispose);
        return item;
    }

    /// <summary>Runs <paramref name="free"/> when the context is disposed, also when the model could not be built.</summary>
    public void OnDispose(Action free) => Root._disposals.Add(free);

    public Slot Reserve(string name, long columns) => Slot.Reserve(Activations, name, MaxRows, columns);

    public Slot ReserveExact(string name, long columns) => Slot.ReserveExact(Activations, name, MaxRows, columns, columns);

    /// <summary>Allocates all memory and binds all layers.</summary>
    public void Commit()
    {
        Parameters.Commit();
        Activations.Commit(Device);
        Packed.Commit(Device);
        foreach (Action bind in _bindings)
            bind();
        _workspace = Device.Allocate(_workspaceBytes);
        _workspacePointer = _workspace.Pointer;
    }

    public void Dispose()
    {
        foreach (Action free in _disposals)
            free();
        _workspace?.Dispose();
        Packed.Dispose();
        Activations.Dispose();
        Parameters.Dispose();
        Stream.Dispose();
    }
}
