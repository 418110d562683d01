namespace CudaMoE.Description;

/// <summary>Files of rows, their format, and the split into training, validation and test rows.</summary>
public sealed record DataDescription
{
    /// <summary>How the files are written.</summary>
    public FileFormat Format { get; init; } = new();

    /// <summary>Training files, in order; <c>.gz</c> files are read as they are. Relative paths start at the model file's folder.</summary>
    public required IReadOnlyList<string> Train { get; init; }

    /// <summary>Validation files; empty when <see cref="ValidationSplit"/> carves them from another split, or when there is no validation.</summary>
    public IReadOnlyList<string> Validation { get; init; } = [];

    /// <summary>Test files; may be empty.</summary>
    public IReadOnlyList<string> Test { get; init; } = [];

    /// <summary>Takes a random part of the training or the test rows for validation; those rows leave the split they came from.</summary>
    public ValidationSplit? ValidationSplit { get; init; }

    /// <summary>The column that groups rows for GAUC (usually the user); null for none.</summary>
    public string? GroupColumn { get; init; }

    /// <summary>The macro graph that a mgoe model is trained with, a file of <c>cudamoe graph build</c>; null for other models.</summary>
    public string? Graph { get; init; }

    /// <summary>Folder of the binary cache; null = <c>.cudamoe-cache</c> beside the model file.</summary>
    public string? Cache { get; init; }
}

/// <summary>How a delimited text file is written.</summary>
public sealed record FileFormat
{
    /// <summary>One character between fields.</summary>
    public string Separator { get; init; } = ",";

    /// <summary>Whether the first line of each file names the columns. If not, <see cref="Columns"/> must.</summary>
    public bool Header { get; init; } = true;

    /// <summary>Column names in order, for files without a header; null when there is a header.</summary>
    public IReadOnlyList<string>? Columns { get; init; }

    /// <summary>The character that encloses fields which hold separators (doubled inside); null = no quoting.</summary>
    public string? Quote { get; init; } = "\"";

    /// <summary>Whether blanks around fields are dropped.</summary>
    public bool Trim { get; init; } = true;

    /// <summary>Field values that mean "not known", beside the empty field.</summary>
    public IReadOnlyList<string> Missing { get; init; } = [];
}

/// <summary>A random part of another split.</summary>
public sealed record ValidationSplit
{
    /// <summary>The split that rows are taken from: train or test.</summary>
    public SplitSource From { get; init; } = SplitSource.Train;

    /// <summary>The share of its rows, above 0 and below 1.</summary>
    [NumberRange(0, 1, AboveMinimum = true, BelowMaximum = true)]
    public double Fraction { get; init; } = 0.1;

    /// <summary>Seed of the choice; the same seed and files give the same rows.</summary>
    public ulong Seed { get; init; } = 1;
}

/// <summary>The split that validation rows are taken from.</summary>
public enum SplitSource
{
    /// <summary>The training files.</summary>
    Train,

    /// <summary>The test files.</summary>
    Test,
}
