using CudaMoE.Checkpoints;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Training;

namespace CudaMoE.Cli;

/// <summary>A trained model from a checkpoint, ready to predict.</summary>
internal sealed class LoadedModel : IDisposable
{
    private LoadedModel(CheckpointFolder checkpoint, ModelDescription description, FittedEncoders encoders, Device device, MultiTaskModel model)
    {
        Checkpoint = checkpoint;
        Description = description;
        Encoders = encoders;
        Device = device;
        Model = model;
    }

    public CheckpointFolder Checkpoint { get; }

    public ModelDescription Description { get; }

    public FittedEncoders Encoders { get; }

    public Device Device { get; }

    public MultiTaskModel Model { get; }

    /// <summary>Loads a checkpoint onto a device.</summary>
    /// <param name="path">A checkpoint or a run folder.</param>
    /// <param name="deviceSpec">The device.</param>
    /// <param name="maxRows">Largest batch.</param>
    public static LoadedModel Open(string path, string deviceSpec, int maxRows)
    {
        CheckpointFolder checkpoint = CheckpointLocator.Open(path);
        ModelDescription description = DescriptionJson.Load(checkpoint.ModelPath);
        FittedEncoders encoders = FittedEncoders.Load(
            checkpoint.EncodersPath ?? throw new UsageException($"{checkpoint.Folder} has no encoders, so it cannot read files: it was not made by a training run"));
        Device device = Device.Open(deviceSpec);
        MultiTaskModel? model = null;
        try
        {
            ModelShape shape = ModelShape.Of(description, encoders);
            model = new(device, description, shape.Layout, shape.Outputs, maxRows, training: false);
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

    public void Dispose()
    {
        Model.Dispose();
        Device.Dispose();
    }
}
