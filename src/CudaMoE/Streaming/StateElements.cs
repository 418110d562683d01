using System.Buffers.Binary;
using CudaMoE.Checkpoints;
using CudaMoE.Tensors;

namespace CudaMoE.Streaming;

/// <summary>Numbers as a file of states or pixels holds them.</summary>
internal static class StateElements
{
    /// <summary>Rounds numbers to nearest even.</summary>
    public static void Encode(ReadOnlySpan<float> states, StateType type, Span<byte> row)
    {
        for (int i = 0; i < states.Length; i++)
        {
            switch (type)
            {
                case StateType.F32:
                    BinaryPrimitives.WriteSingleLittleEndian(row[(i * sizeof(float))..], states[i]);
                    break;
                case StateType.F16:
                    BinaryPrimitives.WriteHalfLittleEndian(row[(i * sizeof(ushort))..], (Half)states[i]);
                    break;
                default:
                    BinaryPrimitives.WriteUInt16LittleEndian(row[(i * sizeof(ushort))..], BFloat16.FromSingle(states[i]));
                    break;
            }
        }
    }

    /// <summary>Reads f32, f16 or bf16.</summary>
    public static void Decode(ReadOnlySpan<byte> row, TensorDataType type, Span<float> states)
    {
        for (int i = 0; i < states.Length; i++)
        {
            states[i] = type switch
            {
                TensorDataType.F32 => BinaryPrimitives.ReadSingleLittleEndian(row[(i * sizeof(float))..]),
                TensorDataType.F16 => (float)BinaryPrimitives.ReadHalfLittleEndian(row[(i * sizeof(ushort))..]),
                _ => BFloat16.ToSingle(BinaryPrimitives.ReadUInt16LittleEndian(row[(i * sizeof(ushort))..])),
            };
        }
    }
}
