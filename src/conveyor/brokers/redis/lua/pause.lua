-- include: clock ring
-- ARGV[2]: the packed pause, or '' to resume, which rings everybody who is hungry.
if ARGV[2] ~= '' then
  call('SET', root .. ':pause', ARGV[2])
else
  call('DEL', root .. ':pause')
  ring(call('SCARD', root .. ':idle'))
end
return 1
