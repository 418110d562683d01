using CudaMoE.Checkpoints;

namespace CudaMoE.Cli;

/// <summary>Finds the checkpoint that a path means.</summary>
internal static class CheckpointLocator
{
    /// <summary>What users give: a checkpoint, or a run folder, which means its best checkpoint, or the latest where none is the best.</summary>
    public const string Help = "A checkpoint, or a run folder: its best checkpoint, or the latest";

    /// <summary>Opens and verifies the checkpoint.</summary>
    /// <exception cref="UsageException">There is none.</exception>
    /// <exception cref="CheckpointFormatException">It was altered.</exception>
    public static CheckpointFolder Open(string path)
    {
        if (!Directory.Exists(path))
            throw new UsageException($"there is no folder {path}", "give a checkpoint or a run folder, e.g. runs/census-20260102-030405");
        return CheckpointStore.Find(path)
            ?? throw new UsageException($"{path} holds no checkpoint", "give a checkpoint or a run folder, e.g. runs/census-20260102-030405");
    }
}
