# -*- coding: ascii -*-
s = "naïve"
