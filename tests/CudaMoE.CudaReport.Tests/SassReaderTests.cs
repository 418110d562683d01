namespace CudaMoE.CudaReport.Tests;

public sealed class SassReaderTests
{
    private const string Sample = """

        Fatbin elf code:
        ================
        arch = sm_80
        code version = [1,7]
        identifier = /x/kernels/gemm/pack.cu

        	code for sm_80
        		Function : _Zfirst
        	.headerflags	@"EF_CUDA_TEXMODE_UNIFIED"
                /*0000*/                   MOV R1, c[0x0][0x28] ;                                 /* 0x00000a0000017a02 */
                                                                                                  /* 0x000fe40000000f00 */
                /*0010*/                   LDG.E.128.CONSTANT R4, [R2.64] ;                       /* 0x00000a0000017a02 */
                /*0020*/              @!P0 LDG.E.U16 R5, [R2.64+0x10] ;                           /* 0x00000a0000017a02 */
                /*0030*/               @P2 LDGSTS.E.BYPASS.128 [R7], [R8.64] ;                    /* 0x00000a0000017a02 */
                /*0040*/                   HMMA.16816.F32.BF16 R12, R4, R8, R12 ;                 /* 0x00000a0000017a02 */
                /*0050*/                   STG.E.64 [R2.64], R4 ;                                 /* 0x00000a0000017a02 */
                /*0060*/              @!P1 BRA 0x40 ;                                             /* 0x00000a0000017a02 */
                /*0070*/                   HMMA.1688.F32.TF32 R12, R4, R8, R12 ;                  /* 0x00000a0000017a02 */
                /*0080*/                   STG.E.128 [R2.64], R4 ;                                /* 0x00000a0000017a02 */
                /*0090*/                   RED.E.ADD.STRONG.GPU [R2.64], R4 ;                     /* 0x00000a0000017a02 */
                /*00a0*/                   EXIT ;                                                 /* 0x00000a0000017a02 */
                /*00b0*/                   BRA 0xb0;                                              /* 0x00000a0000017a02 */
        		..........

        		Function : _Zsecond
                /*0000*/                   STL [R1+0x8], R0 ;                                     /* 0x00000a0000017a02 */
                /*0010*/                   LDL R0, [R1+0x8] ;                                     /* 0x00000a0000017a02 */
                /*0020*/                   RED.E.ADD.F32.FTZ.RN.STRONG.GPU [R2.64], R4 ;          /* 0x00000a0000017a02 */
                /*0030*/                   ATOMS.CAST.SPIN R4, [R2], R4, R5 ;                     /* 0x00000a0000017a02 */

        Fatbin elf code:
        ================
        arch = sm_90a
        identifier = /x/kernels/gemm/pack.cu

        	code for sm_90a
        		Function : _Zfirst
                /*0000*/                   UTMALDG.2D [UR4], [UR6] ;                              /* 0x00000a0000017a02 */
                /*0010*/                   HGMMA.64x64x16.F32.BF16 R24, gdesc[UR4], R24 ;         /* 0x00000a0000017a02 */
                /*0020*/              @P0 BRA P1, 0x0 ;                                           /* 0x00000a0000017a02 */
        """;

    private static List<SassReader.Function> Functions() => [.. SassReader.Read(new StringReader(Sample))];

    [Fact]
    public void Read_SeveralArchitectures_GivesEveryFunction()
    {
        Assert.Equal([("sm_80", "_Zfirst"), ("sm_80", "_Zsecond"), ("sm_90a", "_Zfirst")], Functions().Select(f => (f.Architecture, f.Name)));
    }

    [Fact]
    public void Read_GlobalAccesses_AreCountedByWidth()
    {
        Instructions code = Functions()[0].Code;
        Assert.Equal((2, 1, 1, 1), (code.WideLoads, code.NarrowLoads, code.WideStores, code.NarrowStores));
    }

    [Fact]
    public void Read_TensorCores_AreInALoopBetweenABackwardBranchAndItsTarget()
    {
        Instructions code = Functions()[0].Code;
        Assert.Equal((2, 1), (code.TensorCore, code.TensorCoreInLoops));
        Assert.Equal((1, 1, 1), (Functions()[2].Code.TensorCore, Functions()[2].Code.TensorCoreInLoops, Functions()[2].Code.BulkCopies));
    }

    [Fact]
    public void Read_LocalMemoryAndFloatAtomics_AreCounted()
    {
        Instructions bad = Functions()[1].Code, good = Functions()[0].Code;
        Assert.Equal((2, 1), (bad.LocalAccesses, bad.FloatAtomics));
        Assert.Equal((0, 0), (good.LocalAccesses, good.FloatAtomics));
    }

    [Theory]
    [InlineData("        /*1230*/              @!UP0 BRA 0x40 ;  /* 0x0 */", 0x1230, "BRA", 0x40)]
    [InlineData("        /*0010*/                   IADD3 R1, R1, -0x8, RZ ;  /* 0x0 */", 0x10, "IADD3", -1)]
    public void ParseInstruction_Lines_GiveAddressOperationAndTarget(string line, long address, string operation, long target)
    {
        Assert.Equal(new SassReader.Instruction(address, operation, target), SassReader.ParseInstruction(line));
    }

    [Theory]
    [InlineData("                                                                  /* 0x000fe40000000f00 */")]
    [InlineData("		Function : _Zfirst")]
    [InlineData("")]
    public void ParseInstruction_OtherLines_GiveNothing(string line) => Assert.Null(SassReader.ParseInstruction(line));
}
