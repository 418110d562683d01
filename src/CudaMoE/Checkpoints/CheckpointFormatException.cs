namespace CudaMoE.Checkpoints;

/// <summary>A file of a checkpoint is not what it must be. The message names the file, the place in it, the value and the rule.</summary>
public sealed class CheckpointFormatException : CudaMoEException
{
    /// <summary>Creates it.</summary>
    /// <param name="file">The file or folder.</param>
    /// <param name="message">What is wrong with it: place, value and rule.</param>
    /// <param name="innerException">The cause, if another error led to this one.</param>
    public CheckpointFormatException(string file, string message, Exception? innerException = null)
        : base($"{file}: {message}", innerException!) => File = file;

    /// <summary>The file or folder that is wrong.</summary>
    public string File { get; }
}
