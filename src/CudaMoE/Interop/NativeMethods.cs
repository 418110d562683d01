using System.Runtime.InteropServices;

namespace CudaMoE.Interop;

/// <summary>The functions of cudamoe.h, one to one. Handles are opaque pointers; every call returns a status, see <see cref="NativeStatus"/>.</summary>
internal static unsafe partial class NativeMethods
{
    /// <summary>The library's name; <see cref="NativeLibraryLoader"/> finds the file.</summary>
    public const string Library = "cudamoe";

    [LibraryImport(Library, EntryPoint = "cudamoe_abi_version")]
    public static partial int AbiVersion();

    [LibraryImport(Library, EntryPoint = "cudamoe_version")]
    public static partial byte* Version();

    [LibraryImport(Library, EntryPoint = "cudamoe_last_error")]
    public static partial long LastError(byte* buffer, long capacity);

    [LibraryImport(Library, EntryPoint = "cudamoe_struct_size", StringMarshalling = StringMarshalling.Utf8)]
    public static partial long StructSize(string name);

    [LibraryImport(Library, EntryPoint = "cudamoe_backend_count")]
    public static partial int BackendCount();

    [LibraryImport(Library, EntryPoint = "cudamoe_backend_get_info")]
    public static partial int BackendGetInfo(int index, BackendInfo* info);

    [LibraryImport(Library, EntryPoint = "cudamoe_device_open", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int DeviceOpen(string spec, nint* device);

    [LibraryImport(Library, EntryPoint = "cudamoe_device_close")]
    public static partial int DeviceClose(nint device);

    [LibraryImport(Library, EntryPoint = "cudamoe_device_get_info")]
    public static partial int DeviceGetInfo(nint device, DeviceInfo* info);

    [LibraryImport(Library, EntryPoint = "cudamoe_stream_wrap")]
    public static partial int StreamWrap(nint device, void* native, nint* stream);

    [LibraryImport(Library, EntryPoint = "cudamoe_stream_get_native")]
    public static partial int StreamGetNative(nint stream, void** native);

    [LibraryImport(Library, EntryPoint = "cudamoe_device_get_notes")]
    public static partial int DeviceGetNotes(nint device, byte* buffer, long capacity, long* bytes);

    [LibraryImport(Library, EntryPoint = "cudamoe_memory_allocate")]
    public static partial int MemoryAllocate(nint device, long bytes, void** pointer);

    [LibraryImport(Library, EntryPoint = "cudamoe_memory_allocate_mapped")]
    public static partial int MemoryAllocateMapped(nint device, long bytes, void** pointer);

    [LibraryImport(Library, EntryPoint = "cudamoe_memory_free")]
    public static partial int MemoryFree(nint device, void* pointer);

    [LibraryImport(Library, EntryPoint = "cudamoe_host_allocate")]
    public static partial int HostAllocate(nint device, long bytes, void** pointer);

    [LibraryImport(Library, EntryPoint = "cudamoe_host_free")]
    public static partial int HostFree(nint device, void* pointer);

    [LibraryImport(Library, EntryPoint = "cudamoe_memory_copy")]
    public static partial int MemoryCopy(nint stream, void* destination, void* source, long bytes, int direction);

    [LibraryImport(Library, EntryPoint = "cudamoe_memory_fill")]
    public static partial int MemoryFill(nint stream, void* destination, int value, long bytes);

    [LibraryImport(Library, EntryPoint = "cudamoe_stream_create")]
    public static partial int StreamCreate(nint device, nint* stream);

    [LibraryImport(Library, EntryPoint = "cudamoe_stream_destroy")]
    public static partial int StreamDestroy(nint stream);

    [LibraryImport(Library, EntryPoint = "cudamoe_stream_synchronize")]
    public static partial int StreamSynchronize(nint stream);

    [LibraryImport(Library, EntryPoint = "cudamoe_capture_begin")]
    public static partial int CaptureBegin(nint stream);

    [LibraryImport(Library, EntryPoint = "cudamoe_capture_end")]
    public static partial int CaptureEnd(nint stream, nint* capture);

    [LibraryImport(Library, EntryPoint = "cudamoe_capture_launch")]
    public static partial int CaptureLaunch(nint capture);

    [LibraryImport(Library, EntryPoint = "cudamoe_capture_destroy")]
    public static partial int CaptureDestroy(nint capture);

    [LibraryImport(Library, EntryPoint = "cudamoe_gemm_packed_bytes")]
    public static partial int GemmPackedBytes(nint stream, GemmPackArgs* args, long* bytes);

    [LibraryImport(Library, EntryPoint = "cudamoe_gemm_pack")]
    public static partial int GemmPack(nint stream, GemmPackArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_gemm_forward_workspace")]
    public static partial int GemmForwardWorkspace(nint stream, GemmForwardArgs* args, long* bytes);

    [LibraryImport(Library, EntryPoint = "cudamoe_gemm_forward")]
    public static partial int GemmForward(nint stream, GemmForwardArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_gemm_dgrad_workspace")]
    public static partial int GemmDgradWorkspace(nint stream, GemmDgradArgs* args, long* bytes);

    [LibraryImport(Library, EntryPoint = "cudamoe_gemm_dgrad")]
    public static partial int GemmDgrad(nint stream, GemmDgradArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_gemm_wgrad_workspace")]
    public static partial int GemmWgradWorkspace(nint stream, GemmWgradArgs* args, long* bytes);

    [LibraryImport(Library, EntryPoint = "cudamoe_gemm_wgrad")]
    public static partial int GemmWgrad(nint stream, GemmWgradArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_embedding_cache_bytes")]
    public static partial int EmbeddingCacheBytes(nint stream, EmbeddingCacheFlushArgs* args, long* bytes);

    [LibraryImport(Library, EntryPoint = "cudamoe_embedding_cache_flush")]
    public static partial int EmbeddingCacheFlush(nint stream, EmbeddingCacheFlushArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_embedding_cache_prepare_workspace")]
    public static partial int EmbeddingCachePrepareWorkspace(nint stream, EmbeddingCachePrepareArgs* args, long* bytes);

    [LibraryImport(Library, EntryPoint = "cudamoe_embedding_cache_prepare")]
    public static partial int EmbeddingCachePrepare(nint stream, EmbeddingCachePrepareArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_embedding_forward")]
    public static partial int EmbeddingForward(nint stream, EmbeddingForwardArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_embedding_update_workspace")]
    public static partial int EmbeddingUpdateWorkspace(nint stream, EmbeddingUpdateArgs* args, long* bytes);

    [LibraryImport(Library, EntryPoint = "cudamoe_embedding_update")]
    public static partial int EmbeddingUpdate(nint stream, EmbeddingUpdateArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_embedding_gradient_workspace")]
    public static partial int EmbeddingGradientWorkspace(nint stream, EmbeddingGradientArgs* args, long* bytes);

    [LibraryImport(Library, EntryPoint = "cudamoe_embedding_gradient")]
    public static partial int EmbeddingGradient(nint stream, EmbeddingGradientArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_gate_forward_workspace")]
    public static partial int GateForwardWorkspace(nint stream, GateForwardArgs* args, long* bytes);

    [LibraryImport(Library, EntryPoint = "cudamoe_gate_forward")]
    public static partial int GateForward(nint stream, GateForwardArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_gate_backward")]
    public static partial int GateBackward(nint stream, GateBackwardArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_routing_workspace")]
    public static partial int RoutingWorkspace(nint stream, RoutingArgs* args, long* bytes);

    [LibraryImport(Library, EntryPoint = "cudamoe_routing")]
    public static partial int Routing(nint stream, RoutingArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_group_capacity")]
    public static partial int GroupCapacity(nint stream, GroupCapacityArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_combine_forward")]
    public static partial int CombineForward(nint stream, CombineForwardArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_combine_backward_workspace")]
    public static partial int CombineBackwardWorkspace(nint stream, CombineBackwardArgs* args, long* bytes);

    [LibraryImport(Library, EntryPoint = "cudamoe_combine_backward")]
    public static partial int CombineBackward(nint stream, CombineBackwardArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_expert_forward_workspace")]
    public static partial int ExpertForwardWorkspace(nint stream, ExpertForwardArgs* args, long* bytes);

    [LibraryImport(Library, EntryPoint = "cudamoe_expert_forward")]
    public static partial int ExpertForward(nint stream, ExpertForwardArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_expert_mix_workspace")]
    public static partial int ExpertMixWorkspace(nint stream, ExpertMixArgs* args, long* bytes);

    [LibraryImport(Library, EntryPoint = "cudamoe_expert_mix")]
    public static partial int ExpertMix(nint stream, ExpertMixArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_gated_product_forward")]
    public static partial int GatedProductForward(nint stream, GatedProductForwardArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_gated_product_backward")]
    public static partial int GatedProductBackward(nint stream, GatedProductBackwardArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_layer_norm_forward")]
    public static partial int LayerNormForward(nint stream, LayerNormForwardArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_layer_norm_backward_workspace")]
    public static partial int LayerNormBackwardWorkspace(nint stream, LayerNormBackwardArgs* args, long* bytes);

    [LibraryImport(Library, EntryPoint = "cudamoe_layer_norm_backward")]
    public static partial int LayerNormBackward(nint stream, LayerNormBackwardArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_rms_norm_forward")]
    public static partial int RmsNormForward(nint stream, RmsNormForwardArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_rms_norm_backward_workspace")]
    public static partial int RmsNormBackwardWorkspace(nint stream, RmsNormBackwardArgs* args, long* bytes);

    [LibraryImport(Library, EntryPoint = "cudamoe_rms_norm_backward")]
    public static partial int RmsNormBackward(nint stream, RmsNormBackwardArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_attention_forward_workspace")]
    public static partial int AttentionForwardWorkspace(nint stream, AttentionForwardArgs* args, long* bytes);

    [LibraryImport(Library, EntryPoint = "cudamoe_attention_forward")]
    public static partial int AttentionForward(nint stream, AttentionForwardArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_attention_backward_workspace")]
    public static partial int AttentionBackwardWorkspace(nint stream, AttentionBackwardArgs* args, long* bytes);

    [LibraryImport(Library, EntryPoint = "cudamoe_attention_backward")]
    public static partial int AttentionBackward(nint stream, AttentionBackwardArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_rotary_workspace")]
    public static partial int RotaryWorkspace(nint stream, RotaryArgs* args, long* bytes);

    [LibraryImport(Library, EntryPoint = "cudamoe_rotary")]
    public static partial int Rotary(nint stream, RotaryArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_sequence_maximum_forward")]
    public static partial int SequenceMaximumForward(nint stream, SequenceMaximumForwardArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_sequence_maximum_backward")]
    public static partial int SequenceMaximumBackward(nint stream, SequenceMaximumBackwardArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_graph_aggregate")]
    public static partial int GraphAggregate(nint stream, GraphAggregateArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_graph_edge_gradient")]
    public static partial int GraphEdgeGradient(nint stream, GraphEdgeGradientArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_graph_transpose_workspace")]
    public static partial int GraphTransposeWorkspace(nint stream, GraphTransposeArgs* args, long* bytes);

    [LibraryImport(Library, EntryPoint = "cudamoe_graph_transpose")]
    public static partial int GraphTranspose(nint stream, GraphTransposeArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_loss_workspace")]
    public static partial int LossWorkspace(nint stream, LossArgs* args, long* bytes);

    [LibraryImport(Library, EntryPoint = "cudamoe_loss")]
    public static partial int Loss(nint stream, LossArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_joint_logits_forward")]
    public static partial int JointLogitsForward(nint stream, JointLogitsForwardArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_joint_logits_backward")]
    public static partial int JointLogitsBackward(nint stream, JointLogitsBackwardArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_balance_gram_workspace")]
    public static partial int BalanceGramWorkspace(nint stream, BalanceGramArgs* args, long* bytes);

    [LibraryImport(Library, EntryPoint = "cudamoe_balance_gram")]
    public static partial int BalanceGram(nint stream, BalanceGramArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_balance_factored_gram")]
    public static partial int BalanceFactoredGram(nint stream, BalanceFactoredGramArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_balance_combine")]
    public static partial int BalanceCombine(nint stream, BalanceCombineArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_balance_columns_workspace")]
    public static partial int BalanceColumnsWorkspace(nint stream, BalanceColumnsArgs* args, long* bytes);

    [LibraryImport(Library, EntryPoint = "cudamoe_balance_columns")]
    public static partial int BalanceColumns(nint stream, BalanceColumnsArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_balance_scale")]
    public static partial int BalanceScale(nint stream, BalanceScaleArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_balance_average")]
    public static partial int BalanceAverage(nint stream, BalanceAverageArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_optimizer_norm_workspace")]
    public static partial int OptimizerNormWorkspace(nint stream, OptimizerNormArgs* args, long* bytes);

    [LibraryImport(Library, EntryPoint = "cudamoe_optimizer_norm")]
    public static partial int OptimizerNorm(nint stream, OptimizerNormArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_optimizer_step")]
    public static partial int OptimizerStep(nint stream, OptimizerStepArgs* args);

    [LibraryImport(Library, EntryPoint = "cudamoe_step_numbers_make")]
    public static partial int StepNumbersMake(float learningRate, float beta1, float beta2, long step, StepNumbers* numbers);
}
