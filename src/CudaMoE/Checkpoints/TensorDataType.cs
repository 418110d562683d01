namespace CudaMoE.Checkpoints;

/// <summary>Element types of the safetensors format that this library reads and writes.</summary>
public enum TensorDataType
{
    /// <summary>One byte, 0 or 1.</summary>
    Bool,

    /// <summary>Unsigned 8-bit integer.</summary>
    U8,

    /// <summary>Signed 8-bit integer.</summary>
    I8,

    /// <summary>Unsigned 16-bit integer.</summary>
    U16,

    /// <summary>Signed 16-bit integer.</summary>
    I16,

    /// <summary>IEEE 754 half precision.</summary>
    F16,

    /// <summary>The upper half of an f32.</summary>
    BF16,

    /// <summary>Unsigned 32-bit integer.</summary>
    U32,

    /// <summary>Signed 32-bit integer.</summary>
    I32,

    /// <summary>IEEE 754 single precision.</summary>
    F32,

    /// <summary>Unsigned 64-bit integer.</summary>
    U64,

    /// <summary>Signed 64-bit integer.</summary>
    I64,

    /// <summary>IEEE 754 double precision.</summary>
    F64,
}

/// <summary>Names and sizes of <see cref="TensorDataType"/>.</summary>
public static class TensorDataTypes
{
    private static readonly string[] Names = ["BOOL", "U8", "I8", "U16", "I16", "F16", "BF16", "U32", "I32", "F32", "U64", "I64", "F64"];

    /// <summary>Every name, for messages.</summary>
    internal static string AllNames { get; } = string.Join(", ", Names);

    /// <summary>Bytes of an element.</summary>
    public static int Size(this TensorDataType type) => type switch
    {
        TensorDataType.Bool or TensorDataType.U8 or TensorDataType.I8 => 1,
        TensorDataType.U16 or TensorDataType.I16 or TensorDataType.F16 or TensorDataType.BF16 => 2,
        TensorDataType.U32 or TensorDataType.I32 or TensorDataType.F32 => 4,
        TensorDataType.U64 or TensorDataType.I64 or TensorDataType.F64 => 8,
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "is not an element type"),
    };

    /// <summary>The name in a file, e.g. "BF16".</summary>
    public static string Name(this TensorDataType type) => Names[(int)type];

    /// <summary>The type of that name, compared exactly.</summary>
    internal static bool TryParse(string name, out TensorDataType type)
    {
        int index = Array.IndexOf(Names, name);
        type = index < 0 ? default : (TensorDataType)index;
        return index >= 0;
    }

    /// <summary>Whether elements of .NET type <typeparamref name="T"/> are what a tensor of this type holds. BF16 is read as <see cref="ushort"/>.</summary>
    internal static bool Holds<T>(this TensorDataType type)
        where T : unmanaged => type switch
        {
            TensorDataType.Bool => typeof(T) == typeof(bool) || typeof(T) == typeof(byte),
            TensorDataType.U8 => typeof(T) == typeof(byte),
            TensorDataType.I8 => typeof(T) == typeof(sbyte),
            TensorDataType.U16 or TensorDataType.BF16 => typeof(T) == typeof(ushort),
            TensorDataType.I16 => typeof(T) == typeof(short),
            TensorDataType.F16 => typeof(T) == typeof(Half),
            TensorDataType.U32 => typeof(T) == typeof(uint),
            TensorDataType.I32 => typeof(T) == typeof(int),
            TensorDataType.F32 => typeof(T) == typeof(float),
            TensorDataType.U64 => typeof(T) == typeof(ulong),
            TensorDataType.I64 => typeof(T) == typeof(long),
            TensorDataType.F64 => typeof(T) == typeof(double),
            _ => false,
        };
}
