namespace CudaMoE.Description;

/// <summary>The rules that a description must keep beyond its types.</summary>
public static class DescriptionValidator
{
    /// <summary>Checks every rule; the first broken one is thrown.</summary>
    /// <exception cref="DescriptionException">A rule is broken.</exception>
    public static void Validate(ModelDescription description)
    {
        if (description.Features.Count == 0)
            throw new DescriptionException("features is empty; a model needs at least one feature");
        if (description.Tasks.Count is < 1 or > 64)
            throw new DescriptionException($"tasks has {description.Tasks.Count} entries; it must have 1 to 64");
    }
}
