namespace CudaMoE.CudaReport.Tests;

public sealed class ClassicInstructionTests
{
    private const string Head = """
        .version 8.4
        .target sm_80
        .address_size 64

        .extern .func  (.param .b64 func_retval0) cudamoe_transcendental
        (
        	.param .b32 cudamoe_transcendental_param_0
        )
        ;
        .global .align 4 .b8 table[8] = {1, 2, 3, 4, 5, 6, 7, 8};
        .visible .entry _Z1kv(
        	.param .u64 _Z1kv_param_0
        )
        .maxntid 32, 1, 1
        {
        	.reg .pred 	%p<9>;
        	.reg .b32 	%r<9>;
        	.reg .f32 	%f<9>;
        	.reg .b64 	%rd<9>;
        	.reg .f64 	%fd<9>;

        """;

    // Of a kernel with these lines; the first is line 21 of its file.
    private static IEnumerable<string> Others(string lines) =>
        ClassicInstructions.Others(Head + lines + "\n\tret;\n}\n").Select(o => $"{o.Line}: {o.Name}, {o.Count} times");

    [Fact]
    public void Others_WhatTheFilesHold_IsNone() => Assert.Empty(Others("""
        	mov.u32 	%r1, %ctaid.x;
        	mov.u32 	%r2, %tid.y;
        	ld.param.u64 	%rd1, [_Z1kv_param_0]; // not cp.async
        	@%p1 bra 	$L__BB0_2;
        	/* neither
        	   ex2.approx.f32 */
        $L__BB0_2:
        	.pragma "nounroll";
        	ld.global.nc.v4.u32 	{%r1, %r2, %r3, %r4}, [%rd1];
        	// begin inline asm
        	mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1,%f2,%f3,%f4}, {%r1,%r2,%r3,%r4}, {%r5,%r6}, {%f1,%f2,%f3,%f4};
        	// end inline asm
        	{ // callseq 0, 0
        	.reg .b32 temp_param_reg;
        	st.param.b32 	[param0+0], 0;
        	call.uni (retval0), 
        	cudamoe_transcendental, 
        	(
        	param0
        	);
        	} // callseq 0
        	{ .reg .b32 %low, %high; mov.b64 {%low, %high}, %fd1; }
        	shfl.sync.bfly.b32 	%r1|%p2, %r2, 1, 31, -1;
        	cvt.rn.bf16x2.f32 	%r1, %f1, %f2;
        """));

    [Theory]
    [InlineData("cp.async.cg.shared.global [%r1], [%rd1], 16, %r2;", "cp.async.cg.shared.global")]
    [InlineData("cp.async.wait_group 2;", "cp.async.wait_group")]
    [InlineData("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1, {%r2, %r3}], [%r4];",
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes")]
    [InlineData("mbarrier.init.shared::cta.b64 [%r1], %r2;", "mbarrier.init.shared::cta.b64")]
    [InlineData("fence.proxy.async.shared::cta;", "fence.proxy.async.shared::cta")]
    [InlineData("wgmma.fence.sync.aligned;", "wgmma.fence.sync.aligned")]
    [InlineData("setmaxnreg.inc.sync.aligned.u32 240;", "setmaxnreg.inc.sync.aligned.u32")]
    [InlineData("@%p1 ex2.approx.ftz.f32 %f1, %f2;", "ex2.approx.ftz.f32")]
    [InlineData("lg2.approx.f32 %f1, %f2;", "lg2.approx.f32")]
    [InlineData("sin.approx.f32 %f1, %f2;", "sin.approx.f32")]
    [InlineData("tanh.approx.f32 %f1, %f2;", "tanh.approx.f32")]
    [InlineData("rsqrt.approx.f32 %f1, %f2;", "rsqrt.approx.f32")]
    [InlineData("div.full.f32 %f1, %f2, %f3;", "div.full.f32")]
    [InlineData("rcp.approx.f32 %f1, %f2;", "rcp.approx.f32")]
    [InlineData("fma.rn.ftz.f32 %f1, %f2, %f3, %f4;", "fma.rn.ftz.f32")]
    [InlineData("atom.global.add.f32 %f1, [%rd1], %f2;", "atom.global.add.f32")]
    [InlineData("red.global.add.f64 [%rd1], %fd2;", "red.global.add.f64")]
    [InlineData("st.local.u32 [%rd1], %r1;", "st.local.u32")]
    [InlineData("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%f1,%f2,%f3,%f4}, {%r1,%r2}, {%r3}, {%f1,%f2,%f3,%f4};",
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32")]
    [InlineData("call.uni (retval0), vprintf, (param0, param1);", "call.uni vprintf")]
    [InlineData("call (retval0), %rd1, (param0), prototype_0;", "call %rd1")]
    [InlineData("mov.u32 %r1, %smid;", "%smid")]
    [InlineData("mov.u64 %rd1, %clock64;", "%clock64")]
    [InlineData("mov.u32 %r1, %laneid;", "%laneid")]
    public void Others_AnInstructionThatIsNotListed_IsNamedWithItsLine(string instruction, string name) =>
        Assert.Equal([$"22: {name}, 1 times"], Others("\tmov.u32 \t%r1, 0;\n\t" + instruction));

    [Fact]
    public void Others_InAScopeOrAfterALabel_AreFoundAndCounted() => Assert.Equal(["22: bar.arrive, 2 times", "24: trap, 1 times"], Others("""
        	{
        	bar.arrive 1, 32; bar.arrive 1, 32;
        	}
        $L__BB0_1: @!%p1 trap;
        """));

    // What a call may lead to counts as well.
    [Fact]
    public void Others_AFunctionOfTheModule_IsRead() => Assert.Equal("ex2.approx.f32", Assert.Single(ClassicInstructions.Others("""
        .func helper()
        {
        	.reg .f32 	%f<2>;
        	ex2.approx.f32 %f1, %f1;
        	ret;
        }
        """)).Name);
}
