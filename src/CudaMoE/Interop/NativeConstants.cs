namespace CudaMoE.Interop;

/// <summary>Constants of cudamoe.h that C# passes.</summary>
internal static class NativeConstants
{
    public const int AbiVersion = 1;

    public const int F32 = 0;
    public const int Bf16 = 1;

    public const int HostToDevice = 0;
    public const int DeviceToHost = 1;
    public const int DeviceToDevice = 2;

    public const int BoundsReport = 0;

    public const int EmbeddingCacheWays = 8;

    public const int LossBinary = 0;
    public const int LossSquared = 1;
    public const int LossSoftmax = 2;
}
