using CudaMoE.Checkpoints;

namespace CudaMoE.Cli;

/// <summary>Finds the checkpoint that a path means.</summary>
internal static class CheckpointLocator
{
    /// <summary>What users give: a checkpoint, or a run folder, which means its best checkpoint, or the latest where none is the best.</summary>
    public const string Help = "A checkpoint, or a run folder: its best checkpoint, or the latest";

    /// <summary>Opens and verifies the checkpoint and loads from it, from a newer one where a run that goes on training deletes it meanwhile.</summary>
    /// <exception cref="UsageException">There is none.</exception>
    /// <exception cref="CheckpointFormatException">It was altered, or deleted without another in its place.</exception>
    public static T Load<T>(string path, Func<CheckpointFolder, T> load)
        where T : class
    {
        if (!Directory.Exists(path))
            throw new UsageException($"there is no folder {path}", "give a checkpoint or a run folder, e.g. runs/census-20260102-030405");
        return CheckpointStore.Load(path, load)
            ?? throw new UsageException($"{path} holds no checkpoint", "give a checkpoint or a run folder, e.g. runs/census-20260102-030405");
    }
}
