namespace CudaMoE.Description;

/// <summary>A model description is wrong. The message names the key by its path, the value, and what to write instead.</summary>
public sealed class DescriptionException : CudaMoEException
{
    /// <summary>Creates it for a fault that has no place in a description.</summary>
    public DescriptionException(string message)
        : base(message)
    {
    }

    /// <summary>Creates it with the cause.</summary>
    public DescriptionException(string message, Exception innerException)
        : base(message, innerException)
    {
    }

    /// <summary>Creates it for a place in a description.</summary>
    /// <param name="path">The key's path, e.g. "features[2].dimension"; empty for the whole.</param>
    /// <param name="problem">What is wrong there, e.g. "is 0; it must be at least 1".</param>
    public DescriptionException(string path, string problem)
        : base(path.Length == 0 ? $"the description {problem}" : $"{path} {problem}") => KeyPath = path;

    /// <summary>Creates it for a place in a text.</summary>
    internal DescriptionException(string message, string? path, int? line, Exception? innerException)
        : base(message, innerException!)
    {
        KeyPath = path;
        Line = line;
    }

    /// <summary>The path of the key, e.g. "features[2].dimension"; null when the fault has no single place.</summary>
    public string? KeyPath { get; }

    /// <summary>The line of the text, from 1; null for a description that was not read from text.</summary>
    public int? Line { get; }
}
