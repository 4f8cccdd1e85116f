# domo-token completions powershell | Out-String | Invoke-Expression
Register-ArgumentCompleter -Native -CommandName domo-token -ScriptBlock {
    param($word, $line, $position)
    $words = @($line.CommandElements | Select-Object -Skip 1 |
        Where-Object { $_.Extent.EndOffset -lt $position } | ForEach-Object { "$_" })
    # Windows' own PowerShell passes no empty argument on.
    & domo-token __complete @words "+$word" 2>$null | Where-Object { $_ -notlike ':*' } | ForEach-Object {
        $value, $about = $_ -split "`t", 2
        if (-not $about) { $about = $value }
        [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $about)
    }
}
