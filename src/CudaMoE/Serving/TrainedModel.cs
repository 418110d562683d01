using CudaMoE.Checkpoints;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Training;

namespace CudaMoE.Serving;

/// <summary>A trained model from a checkpoint, with its encoders, on a device of its own.</summary>
/// <remarks>Not thread-safe: one thread at a time. <see cref="Predictor"/> serves many.</remarks>
public sealed class TrainedModel : IDisposable
{
    private TrainedModel(CheckpointFolder checkpoint, ModelDescription description, FittedEncoders encoders, Device device, MultiTaskModel model)
    {
        Checkpoint = checkpoint;
        Description = description;
        Encoders = encoders;
        Device = device;
        Model = model;
    }

    /// <summary>Where it was loaded from.</summary>
    public CheckpointFolder Checkpoint { get; }

    /// <summary>The description that it was trained by.</summary>
    public ModelDescription Description { get; }

    /// <summary>How fields become numbers.</summary>
    public FittedEncoders Encoders { get; }

    /// <summary>Its device.</summary>
    public Device Device { get; }

    /// <summary>The model, for evaluation.</summary>
    public MultiTaskModel Model { get; }

    /// <summary>Loads a checkpoint onto a device.</summary>
    /// <param name="path">A checkpoint, or a run folder, which means its best checkpoint, or the latest where none is the best.</param>
    /// <param name="deviceSpec">The device, see <see cref="Tensors.Device.Open(string)"/>.</param>
    /// <param name="maxRows">Largest batch, at least 1.</param>
    /// <exception cref="CudaMoEException">There is no checkpoint, it was altered, it was not made by a training run, or the device cannot be had.</exception>
    /// <remarks>The run may go on training: where it deletes the checkpoint meanwhile, the one that the folder means by then is loaded.</remarks>
    public static TrainedModel Open(string path, string deviceSpec, int maxRows) =>
        CheckpointStore.Load(path, checkpoint => Load(checkpoint, deviceSpec, maxRows))
        ?? throw new CheckpointFormatException(path, "there is no checkpoint here; give a checkpoint or a run folder");

    /// <summary>Loads a checkpoint onto a device.</summary>
    /// <param name="checkpoint">The checkpoint.</param>
    /// <param name="deviceSpec">The device.</param>
    /// <param name="maxRows">Largest batch, at least 1.</param>
    /// <exception cref="CudaMoEException">It was altered or deleted, it was not made by a training run, or the device cannot be had.</exception>
    public static TrainedModel Open(CheckpointFolder checkpoint, string deviceSpec, int maxRows) => checkpoint.Load(opened => Load(opened, deviceSpec, maxRows));

    /// <inheritdoc/>
    public void Dispose()
    {
        Model.Dispose();
        Device.Dispose();
    }

    private static TrainedModel Load(CheckpointFolder checkpoint, string deviceSpec, int maxRows)
    {
        ModelDescription description = DescriptionJson.Load(checkpoint.ModelPath);
        FittedEncoders encoders = FittedEncoders.Load(
            checkpoint.EncodersPath ?? throw new CheckpointFormatException(checkpoint.Folder, "it has no encoders, so it cannot read rows: it was not made by a training run"));
        Device device = Device.Open(deviceSpec);
        MultiTaskModel? model = null;
        try
        {
            model = new(device, description, encoders.Layout, [.. encoders.Tasks.Select(task => task.Outputs)], maxRows, training: false);
            using SafetensorsReader weights = checkpoint.OpenWeights();
            ModelCheckpoint.LoadWeights(model, weights);
            return new(checkpoint, description, encoders, device, model);
        }
        catch
        {
            model?.Dispose();
            device.Dispose();
            throw;
        }
    }
}
