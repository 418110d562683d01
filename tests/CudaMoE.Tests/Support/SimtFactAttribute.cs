namespace CudaMoE.Tests.Support;

/// <summary>A fact about the host executor, skipped where that is not built.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class SimtFactAttribute : FactAttribute
{
    public SimtFactAttribute() => Skip = TestDevices.SimtSkipped;
}

/// <summary>A theory about the host executor, skipped where that is not built.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class SimtTheoryAttribute : TheoryAttribute
{
    public SimtTheoryAttribute() => Skip = TestDevices.SimtSkipped;
}
