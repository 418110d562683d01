using System.Globalization;
using System.Text.RegularExpressions;

namespace CudaMoE.CudaReport;

/// <summary>Counts the instructions of each function in the text that <c>cuobjdump -sass</c> prints.</summary>
internal static partial class SassReader
{
    /// <summary>A function of one architecture, its name as the linker sees it.</summary>
    internal readonly record struct Function(string Architecture, string Name, Instructions Code);

    public static IEnumerable<Function> Read(TextReader text)
    {
        string architecture = "";
        string? name = null;
        var body = new List<Instruction>();
        while (text.ReadLine() is { } line)
        {
            if (ParseInstruction(line) is { } instruction)
            {
                body.Add(instruction);
                continue;
            }
            string trimmed = line.Trim();
            bool isArchitecture = trimmed.StartsWith("arch = ", StringComparison.Ordinal);
            bool isFunction = trimmed.StartsWith("Function : ", StringComparison.Ordinal);
            if (!isArchitecture && !isFunction)
                continue;
            if (name is not null)
                yield return new Function(architecture, name, Count(body));
            body.Clear();
            name = isFunction ? trimmed["Function : ".Length..] : null;
            if (isArchitecture)
                architecture = trimmed["arch = ".Length..];
        }
        if (name is not null)
            yield return new Function(architecture, name, Count(body));
    }

    /// <summary>One machine instruction; the target of a branch, or -1.</summary>
    internal readonly record struct Instruction(long Address, string Operation, long Target);

    /// <summary>The instruction of a line such as <c>/*0010*/ @!P0 BRA 0x40 ; /* 0x... */</c>; null where there is none.</summary>
    internal static Instruction? ParseInstruction(string line)
    {
        if (!line.AsSpan().TrimStart().StartsWith("/*", StringComparison.Ordinal) || InstructionLine().Match(line) is not { Success: true } match)
            return null;
        string operation = match.Groups["operation"].Value;
        long target = -1;
        if (operation.StartsWith("BRA", StringComparison.Ordinal) && HexadecimalOperand().Matches(match.Groups["operands"].Value) is { Count: > 0 } operands)
            target = Hexadecimal(operands[^1].Groups[1].Value);
        return new Instruction(Hexadecimal(match.Groups["address"].Value), operation, target);
    }

    private static long Hexadecimal(string digits) => long.Parse(digits, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);

    private static Instructions Count(List<Instruction> body)
    {
        // A loop reaches from the target of a branch backwards to the branch. The branch to itself at a function's end is none.
        var loops = body.Where(i => i.Target >= 0 && i.Target < i.Address).ToList();
        int wideLoads = 0, narrowLoads = 0, wideStores = 0, narrowStores = 0, bulk = 0, tensor = 0, inLoops = 0, local = 0, floatAtomics = 0;
        foreach (Instruction instruction in body)
        {
            string[] parts = instruction.Operation.Split('.');
            bool wide = parts.Contains("128");
            switch (parts[0])
            {
                // LD and ST reach global memory through a generic address; LDGSTS copies from global to shared memory.
                case "LDG" or "LD" or "LDGSTS":
                    _ = wide ? wideLoads++ : narrowLoads++;
                    break;
                case "STG" or "ST":
                    _ = wide ? wideStores++ : narrowStores++;
                    break;
                case "UTMALDG" or "UTMASTG" or "UBLKCP":
                    bulk++;
                    break;
                case "HMMA" or "HGMMA":
                    tensor++;
                    if (loops.Exists(loop => loop.Target <= instruction.Address && instruction.Address <= loop.Address))
                        inLoops++;
                    break;
                case "LDL" or "STL":
                    local++;
                    break;
                case "RED" or "ATOM" or "ATOMG" or "ATOMS" or "UTMAREDG":
                    if (parts.Any(part => part.StartsWith('F') && part.Length > 1 && char.IsDigit(part[1]) || part.StartsWith("BF", StringComparison.Ordinal)))
                        floatAtomics++;
                    break;
            }
        }
        return new Instructions
        {
            WideLoads = wideLoads,
            NarrowLoads = narrowLoads,
            WideStores = wideStores,
            NarrowStores = narrowStores,
            BulkCopies = bulk,
            TensorCore = tensor,
            TensorCoreInLoops = inLoops,
            LocalAccesses = local,
            FloatAtomics = floatAtomics,
        };
    }

    [GeneratedRegex(@"^\s*/\*(?<address>[0-9a-f]+)\*/\s+(?:@!?U?P\w+\s+)?(?<operation>[A-Z][\w.]*)(?<operands>[^;]*);")]
    private static partial Regex InstructionLine();

    [GeneratedRegex(@"0x([0-9a-f]+)")]
    private static partial Regex HexadecimalOperand();
}
