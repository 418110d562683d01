using System.Text;
using CudaMoE.Checkpoints;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Models;
using CudaMoE.Tensors;

namespace CudaMoE.Training;

/// <summary>Moves a model between device memory and a checkpoint's files.</summary>
public static class ModelCheckpoint
{
    private const string FirstState = ".state1";
    private const string SecondState = ".state2";

    /// <summary>What a checkpoint of this model is made of.</summary>
    /// <param name="model">The model; not to be changed before the checkpoint is saved.</param>
    /// <param name="encoders">The encoders of its data; null when it has none.</param>
    /// <param name="state">Where the run stands.</param>
    public static CheckpointContent Content(MultiTaskModel model, FittedEncoders? encoders, TrainingState state) => new()
    {
        WriteModel = stream => stream.Write(Encoding.UTF8.GetBytes(DescriptionJson.Write(model.Description))),
        WriteEncoders = encoders == null ? null : stream => stream.Write(encoders.ToUtf8Json()),
        AddWeights = writer => AddWeights(model, writer),
        AddOptimizer = model.Training ? writer => AddOptimizer(model, writer) : null,
        State = state,
    };

    /// <summary>Adds all parameters under their names.</summary>
    public static void AddWeights(MultiTaskModel model, SafetensorsWriter writer)
    {
        foreach (Parameter parameter in model.Parameters)
        {
            TensorDataType type = parameter.Type == ElementType.F32 ? TensorDataType.F32 : TensorDataType.BF16;
            Add(model, writer, parameter.Name, type, parameter.Shape, parameter.Value);
        }
    }

    /// <summary>Reads all parameters; the file must have exactly the model's, with its shapes.</summary>
    /// <exception cref="CheckpointFormatException">A tensor is missing, unknown, or of another shape or type.</exception>
    public static void LoadWeights(MultiTaskModel model, SafetensorsReader reader)
    {
        HashSet<string> expected = [];
        foreach (Parameter parameter in model.Parameters)
        {
            expected.Add(parameter.Name);
            TensorDataType type = parameter.Type == ElementType.F32 ? TensorDataType.F32 : TensorDataType.BF16;
            CheckEntry(reader, parameter.Name, type, parameter.Shape);
            Load(model, reader, parameter.Name, parameter.Value, parameter.Count * (type == TensorDataType.F32 ? 4 : 2));
        }

        RefuseUnknown(reader, expected);
        model.ParametersChanged();
    }

    /// <summary>Reads the optimiser states of a checkpoint that training goes on from.</summary>
    /// <exception cref="CheckpointFormatException">A tensor is missing, unknown, or of another shape or type.</exception>
    public static void LoadOptimizer(MultiTaskModel model, SafetensorsReader reader)
    {
        HashSet<string> expected = [];
        foreach ((string name, nint address, long count) in States(model))
        {
            expected.Add(name);
            CheckEntry(reader, name, TensorDataType.F32, [count]);
            Load(model, reader, name, address, count * sizeof(float));
        }

        RefuseUnknown(reader, expected);
    }

    private static void AddOptimizer(MultiTaskModel model, SafetensorsWriter writer)
    {
        foreach ((string name, nint address, long count) in States(model))
            Add(model, writer, name, TensorDataType.F32, [count], address);
    }

    private static IEnumerable<(string Name, nint Address, long Count)> States(MultiTaskModel model)
    {
        foreach (Parameter parameter in model.Parameters)
        {
            if (parameter.State1Count > 0)
                yield return (parameter.Name + FirstState, parameter.State1, parameter.State1Count);
            if (parameter.State2Count > 0)
                yield return (parameter.Name + SecondState, parameter.State2, parameter.State2Count);
        }

        foreach ((string, nint, long) state in model.BalancerStates)
            yield return state;
    }

    private static void CheckEntry(SafetensorsReader reader, string name, TensorDataType type, IReadOnlyList<long> shape)
    {
        if (!reader.Header.TryGet(name, out TensorEntry? entry))
            throw new CheckpointFormatException(reader.Header.File, $"has no tensor {name}; the model needs it");
        if (entry!.Type != type || !entry.Shape.SequenceEqual(shape))
        {
            throw new CheckpointFormatException(
                reader.Header.File,
                $"tensor {name} is {entry.Type} [{string.Join(", ", entry.Shape)}]; the model needs {type} [{string.Join(", ", shape)}]");
        }
    }

    private static void RefuseUnknown(SafetensorsReader reader, HashSet<string> expected)
    {
        foreach (TensorEntry entry in reader.Header.Tensors)
        {
            if (!expected.Contains(entry.Name))
                throw new CheckpointFormatException(reader.Header.File, $"tensor {entry.Name} is not one of the model's");
        }
    }

    /// <summary>Adds a tensor of device memory: in place where the host can read it, else by copies while the file is written.</summary>
    private static void Add(MultiTaskModel model, SafetensorsWriter writer, string name, TensorDataType type, IReadOnlyList<long> shape, nint address)
    {
        if (model.Device.Info.HostAccessible)
            writer.Add(name, type, shape, address);
        else
            writer.Add(name, type, shape, (offset, destination) => model.Stream.CopyToHost(address + (nint)offset, destination));
    }

    /// <summary>Copies a tensor of a file to device memory.</summary>
    private static void Load(MultiTaskModel model, SafetensorsReader reader, string name, nint address, long bytes)
    {
        const int block = 1 << 28;
        for (long start = 0; start < bytes; start += block)
            model.Stream.CopyToDevice(reader.Bytes(name, start, (int)Math.Min(block, bytes - start)), address + (nint)start);
    }
}
