using System.Runtime.InteropServices;

namespace CudaMoE.Interop;

/// <summary><c>cudamoe_optimizer_tensor</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct OptimizerTensor
{
    public float* Parameter;
    public float* Gradient;
    public float* State1;
    public float* State2;
    public long Count;
    public float LearningRateScale;
    public float WeightDecay;
}

/// <summary><c>cudamoe_optimizer_norm_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct OptimizerNormArgs
{
    public uint StructSize;
    public int TensorCount;
    public OptimizerTensor* Tensors;
    public double* Norm;
    public void* Workspace;
    public long WorkspaceBytes;
}

/// <summary><c>cudamoe_optimizer_step_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct OptimizerStepArgs
{
    public uint StructSize;
    public int TensorCount;
    public OptimizerTensor* Tensors;
    public int Optimizer;
    public float LearningRate;
    public float Momentum;
    public float Beta1;
    public float Beta2;
    public float Epsilon;
    public float GradientScale;
    public float MaxNorm;
    public long Step;
    public double* Norm;
    public StepNumbers* Numbers;
}

/// <summary><c>cudamoe_step_numbers</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct StepNumbers
{
    public long Step;
    public float LearningRate;
    public float Correction1;
    public float Correction2;
    public uint Reserved;
}
